package finetuned

import (
	"context"
	"crypto/rand"
	"iter"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/protobuf/proto"
)

// SubmitOption changes what Submit sends.
type SubmitOption func(*v1.CreateJobRequest)

// WithRequestID names the submit: said twice with the same spec, it makes one job. Default: one made for this call.
func WithRequestID(id string) SubmitOption {
	return func(r *v1.CreateJobRequest) { r.RequestId = id }
}

// WithName gives the job a name, in place of the spec's.
func WithName(name string) SubmitOption {
	return func(r *v1.CreateJobRequest) { r.Spec.Name = &name }
}

// WithLabel adds a label to those of the spec.
func WithLabel(key, value string) SubmitOption {
	return func(r *v1.CreateJobRequest) {
		if r.Spec.Labels == nil {
			r.Spec.Labels = map[string]string{}
		}
		r.Spec.Labels[key] = value
	}
}

// WithHold submits the job in state PAUSED; Release queues it.
func WithHold() SubmitOption {
	return func(r *v1.CreateJobRequest) { r.Spec.Hold = proto.Bool(true) }
}

// Submit queues a job; when it returns, the job is on the daemon's disk. It fails with ErrInvalidSpec (every problem at once, in
// Error.Violations), ErrAlreadyExists or ErrLimitReached. The spec is not changed.
func (c *Client) Submit(ctx context.Context, spec *v1.JobSpec, options ...SubmitOption) (*v1.Job, error) {
	request := &v1.CreateJobRequest{Spec: &v1.JobSpec{}, RequestId: rand.Text()}
	proto.Merge(request.Spec, spec)
	for _, option := range options {
		option(request)
	}
	response, err := call(ctx, c.jobs.CreateJob, request, callTimeout)
	return response.GetJob(), err
}

// Plan says what submitting the spec would do: its problems, or its resolved form, its memory, where it would run. It makes no job.
func (c *Client) Plan(ctx context.Context, spec *v1.JobSpec) (*v1.PlanJobResponse, error) {
	return call(ctx, c.jobs.PlanJob, &v1.PlanJobRequest{Spec: spec}, callTimeout)
}

// Get is the job with everything that is known of it. It fails with ErrNotFound or ErrAmbiguous.
func (c *Client) Get(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.GetJob, &v1.GetJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Explain says why the job is where it is: what each device says to it, what puts it at its place, when it will start.
func (c *Client) Explain(ctx context.Context, job string) (*v1.ExplainJobResponse, error) {
	return call(ctx, c.jobs.ExplainJob, &v1.ExplainJobRequest{Job: job}, callTimeout)
}

// List yields jobs, newest first, fetched page by page as they are consumed. A nil request is all of them.
func (c *Client) List(ctx context.Context, request *v1.ListJobsRequest) iter.Seq2[*v1.Job, error] {
	return func(yield func(*v1.Job, error) bool) {
		asked := &v1.ListJobsRequest{}
		proto.Merge(asked, request)
		for {
			page, err := call(ctx, c.jobs.ListJobs, asked, callTimeout)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, job := range page.GetJobs() {
				if !yield(job, nil) {
					return
				}
			}
			if page.GetNextPageToken() == "" {
				return
			}
			asked.PageToken = page.GetNextPageToken()
		}
	}
}

// Update changes what request.UpdateMask names: priority, front, labels, annotations. Like every change it is never repeated.
func (c *Client) Update(ctx context.Context, request *v1.UpdateJobRequest) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.UpdateJob, request, callTimeout)
	return response.GetJob(), err
}

// Cancel ends the job. It may still be stopping when this returns.
func (c *Client) Cancel(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.CancelJob, &v1.CancelJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// CancelAndSave ends the job after a last checkpoint.
func (c *Client) CancelAndSave(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.CancelJob, &v1.CancelJobRequest{Job: job, Save: true}, callTimeout)
	return response.GetJob(), err
}

// Pause saves a checkpoint, gives the devices back and holds the job.
func (c *Client) Pause(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.PauseJob, &v1.PauseJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Hold keeps a job that waits from starting. It fails with ErrWrongState if the job runs: this never stops a training.
func (c *Client) Hold(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.PauseJob, &v1.PauseJobRequest{Job: job, OnlyWaiting: true}, callTimeout)
	return response.GetJob(), err
}

// Save saves a checkpoint at the end of the running job's step, and goes on; its metrics tell when it is there.
func (c *Client) Save(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.SaveCheckpoint, &v1.SaveCheckpointRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Stop ends a running job at the end of its step and keeps what it has learned: it succeeds, with an output.
func (c *Client) Stop(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.StopJob, &v1.StopJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Resume queues a paused job again; it goes on from its checkpoint.
func (c *Client) Resume(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.ResumeJob, &v1.ResumeJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Release ends a hold: Resume, by the name that goes with Hold.
func (c *Client) Release(ctx context.Context, job string) (*v1.Job, error) {
	return c.Resume(ctx, job)
}

// Retry queues a failed or cancelled job again, from its newest complete checkpoint.
func (c *Client) Retry(ctx context.Context, job string) (*v1.Job, error) {
	response, err := call(ctx, c.jobs.RetryJob, &v1.RetryJobRequest{Job: job}, callTimeout)
	return response.GetJob(), err
}

// Delete forgets a job that has ended and removes its run directory, outputs included.
func (c *Client) Delete(ctx context.Context, job string) error {
	_, err := call(ctx, c.jobs.DeleteJob, &v1.DeleteJobRequest{Job: job}, callTimeout)
	return err
}
