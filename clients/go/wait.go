package finetuned

import (
	"context"
	"time"

	v1 "finetuned.dev/go/finetuned/v1"
)

// Lines of log that JobFailedError carries.
const logTail = 20

// The daemon answers a WaitJob after so many seconds by default, and at most after ten minutes.
const waitSeconds = 60

// Wait is the job once it has succeeded. It fails with *JobFailedError or *JobCancelledError, and with ErrDeadlineExceeded when the
// context's time is over and the job goes on.
func (c *Client) Wait(ctx context.Context, job string) (*v1.Job, error) {
	for _, err := range c.Watch(ctx, job) {
		if err != nil {
			return nil, err
		}
	}
	ended, err := c.Get(ctx, job)
	if err != nil {
		return nil, err
	}
	switch ended.GetState() {
	case v1.JobState_JOB_STATE_FAILED:
		return ended, &JobFailedError{Job: ended, LogTail: c.tail(ctx, ended.GetId())}
	case v1.JobState_JOB_STATE_CANCELLED:
		return ended, &JobCancelledError{Job: ended}
	}
	return ended, nil
}

// WaitJob is one long poll: it answers once the job has ended, or is in one of the states, at the step or beyond the revision that
// request names, at the latest after request.TimeoutSeconds. response.Reached says which.
func (c *Client) WaitJob(ctx context.Context, request *v1.WaitJobRequest) (*v1.WaitJobResponse, error) {
	seconds := float64(waitSeconds)
	if request.TimeoutSeconds != nil {
		seconds = request.GetTimeoutSeconds()
	}
	return call(ctx, c.jobs.WaitJob, request, callTimeout+time.Duration(seconds*float64(time.Second)))
}

// tail is the end of what the job printed, as far as it can be had: the failure itself is what matters.
func (c *Client) tail(ctx context.Context, job string) []string {
	var lines []string
	for line, err := range c.Logs(ctx, job, Tail(logTail), NoFollow()) {
		if err != nil {
			break
		}
		lines = append(lines, line.GetText())
	}
	return lines
}
