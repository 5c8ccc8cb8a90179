package finetuned

import (
	"context"
	"iter"
	"time"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Event is one thing that a job reported, with its number: from 1, rising by one, over all attempts.
type Event struct {
	Seq uint64
	*v1.TrainingEvent
}

// LogLine is one line that a job printed, with its number.
type LogLine struct {
	Seq uint64
	*v1.LogLine
}

// StreamOption says which part of a stream of events or lines is wanted.
type StreamOption func(*part)

type part struct {
	after    uint64
	tail     uint64
	noFollow bool
}

// AfterSeq begins after the record with this number. Default: from the beginning.
func AfterSeq(seq uint64) StreamOption { return func(p *part) { p.after = seq } }

// Tail begins with the last so many of the lines that are there now. Only for Logs.
func Tail(lines uint64) StreamOption { return func(p *part) { p.tail = lines } }

// NoFollow ends after what is there now. Default: when the job has ended.
func NoFollow() StreamOption { return func(p *part) { p.noFollow = true } }

// Metrics yields the job's events, the past and then live, each once, until the job has ended. A lost connection is found again
// where it broke.
func (c *Client) Metrics(ctx context.Context, job string, options ...StreamOption) iter.Seq2[Event, error] {
	wanted := chosen(options)
	start := func(ctx context.Context, after uint64) (grpc.ServerStreamingClient[v1.StreamMetricsResponse], error) {
		return c.metrics.StreamMetrics(ctx, &v1.StreamMetricsRequest{Job: job, AfterSeq: after, NoFollow: wanted.noFollow})
	}
	with := func(seq uint64, event *v1.TrainingEvent) Event { return Event{seq, event} }
	return numbered(ctx, c.patience, wanted.after, start, (*v1.StreamMetricsResponse).GetEvents, with)
}

// Logs yields what the job's processes printed, as Metrics.
func (c *Client) Logs(ctx context.Context, job string, options ...StreamOption) iter.Seq2[LogLine, error] {
	wanted := chosen(options)
	start := func(ctx context.Context, after uint64) (grpc.ServerStreamingClient[v1.StreamLogsResponse], error) {
		request := &v1.StreamLogsRequest{Job: job, AfterSeq: after, NoFollow: wanted.noFollow}
		if after == 0 {
			request.Tail = wanted.tail
		}
		return c.metrics.StreamLogs(ctx, request)
	}
	with := func(seq uint64, line *v1.LogLine) LogLine { return LogLine{seq, line} }
	return numbered(ctx, c.patience, wanted.after, start, (*v1.StreamLogsResponse).GetLines, with)
}

// Watch yields the job now, then again whenever it changes, until it has ended. Its transitions are there only the first time.
func (c *Client) Watch(ctx context.Context, job string) iter.Seq2[*v1.Job, error] {
	start := func(ctx context.Context) (grpc.ServerStreamingClient[v1.WatchJobResponse], error) {
		return c.jobs.WatchJob(ctx, &v1.WatchJobRequest{Job: job})
	}
	ended := func(message *v1.WatchJobResponse) bool { return Ended(message.GetJob()) }
	return func(yield func(*v1.Job, error) bool) {
		var first *v1.Job
		for message, err := range follow(ctx, c.patience, start, ended) {
			if err != nil {
				yield(nil, err)
				return
			}
			seen := message.GetJob()
			if first == nil {
				first = seen
			}
			if seen.Spec == nil {
				seen.Spec, seen.Resolved = first.GetSpec(), first.GetResolved()
			}
			if !yield(seen, nil) {
				return
			}
		}
	}
}

// WatchJobs yields every change of state of all jobs, in order: those after request.Cursor first, then live. Who stores the cursor
// of the last change it dealt with misses nothing, however long it was away. It fails with ErrCursorTooOld. A lost connection is
// found again where it broke. With NoFollow it ends after what is there now, else with its context.
func (c *Client) WatchJobs(ctx context.Context, request *v1.WatchJobsRequest) iter.Seq2[*v1.JobChange, error] {
	asked := &v1.WatchJobsRequest{}
	proto.Merge(asked, request)
	start := func(ctx context.Context) (grpc.ServerStreamingClient[v1.WatchJobsResponse], error) {
		return c.jobs.WatchJobs(ctx, asked)
	}
	last := func(message *v1.WatchJobsResponse) bool { return asked.GetNoFollow() && message.GetUpToDate() }
	return func(yield func(*v1.JobChange, error) bool) {
		for message, err := range follow(ctx, c.patience, start, last) {
			if err != nil {
				yield(nil, err)
				return
			}
			for _, change := range message.GetChanges() {
				if !yield(change, nil) {
					return
				}
			}
			// What is new is told by the cursor from here on.
			asked.Cursor, asked.OnlyNew = message.GetCursor(), false
		}
	}
}

// Ended is whether a job will not change any more by itself.
func Ended(job *v1.Job) bool {
	switch job.GetState() {
	case v1.JobState_JOB_STATE_SUCCEEDED, v1.JobState_JOB_STATE_FAILED, v1.JobState_JOB_STATE_CANCELLED:
		return true
	}
	return false
}

func chosen(options []StreamOption) part {
	var wanted part
	for _, option := range options {
		option(&wanted)
	}
	return wanted
}

// frame is what both numbered streams send.
type frame[M any] interface {
	*M
	GetFirstSeq() uint64
	GetEnd() *v1.StreamEnd
}

// numbered yields the records of a stream with their numbers, none twice, from after on.
func numbered[M any, P frame[M], T, R any](
	ctx context.Context,
	patience time.Duration,
	after uint64,
	start func(context.Context, uint64) (grpc.ServerStreamingClient[M], error),
	records func(*M) []T,
	with func(uint64, T) R,
) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		seen := after
		again := func(ctx context.Context) (grpc.ServerStreamingClient[M], error) { return start(ctx, seen) }
		for message, err := range follow(ctx, patience, again, func(m *M) bool { return P(m).GetEnd() != nil }) {
			if err != nil {
				var none R
				yield(none, err)
				return
			}
			for offset, record := range records(message) {
				seq := P(message).GetFirstSeq() + uint64(offset)
				if seq <= seen {
					continue
				}
				seen = seq
				if !yield(with(seq, record), nil) {
					return
				}
			}
		}
	}
}

// follow yields a stream's messages up to the one that is the last, and starts it again whenever it is cut before. start is to
// ask for what comes after the last message that was yielded.
func follow[M any](
	ctx context.Context,
	patience time.Duration,
	start func(context.Context) (grpc.ServerStreamingClient[M], error),
	isLast func(*M) bool,
) iter.Seq2[*M, error] {
	return func(yield func(*M, error) bool) {
		pauses := pauses{patience: patience}
		for {
			done, err := once(ctx, &pauses, start, isLast, yield)
			if done {
				return
			}
			if err := pauses.take(ctx, err); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// once runs a stream until no more of it is wanted, or until it is cut.
func once[M any](
	ctx context.Context,
	pauses *pauses,
	start func(context.Context) (grpc.ServerStreamingClient[M], error),
	isLast func(*M) bool,
	yield func(*M, error) bool,
) (done bool, err error) {
	// Ends the call however this is left.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := start(ctx)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return false, err
		}
		pauses.heard()
		if !yield(message, nil) || isLast(message) {
			return true, nil
		}
	}
}
