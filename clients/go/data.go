package finetuned

import (
	"context"
	"iter"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/grpc"
)

// DataReport is what the preparation found in the job's data, with the rows it dropped. It fails with ErrNotPrepared.
func (c *Client) DataReport(ctx context.Context, job string) (*v1.DataReport, error) {
	response, err := call(ctx, c.data.GetDataReport, &v1.GetDataReportRequest{Job: job}, callTimeout)
	return response.GetReport(), err
}

// PreviewData is rows of a spec's data as a job would train on them. It fails with ErrInvalidSpec or ErrDataRefused.
func (c *Client) PreviewData(ctx context.Context, request *v1.PreviewDataRequest) ([]*v1.PreviewedRow, error) {
	response, err := call(ctx, c.data.PreviewData, request, previewTimeout)
	return response.GetRows(), err
}

// CheckData prepares a spec's data without a job, and yields its progress about once a second, then its report. Leaving the loop
// ends the check. It fails with ErrInvalidSpec or ErrDataRefused.
func (c *Client) CheckData(ctx context.Context, spec *v1.JobSpec) iter.Seq2[*v1.CheckDataResponse, error] {
	start := func(ctx context.Context) (grpc.ServerStreamingClient[v1.CheckDataResponse], error) {
		return c.data.CheckData(ctx, &v1.CheckDataRequest{Spec: spec})
	}
	reported := func(message *v1.CheckDataResponse) bool { return message.GetReport() != nil }
	return follow(ctx, c.patience, start, reported)
}

// Datasets yields the data sets that were sent to the daemon's host, by name, fetched page by page as they are consumed.
func (c *Client) Datasets(ctx context.Context) iter.Seq2[*v1.Dataset, error] {
	return func(yield func(*v1.Dataset, error) bool) {
		request := &v1.ListDatasetsRequest{}
		for {
			page, err := call(ctx, c.data.ListDatasets, request, callTimeout)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, dataset := range page.GetDatasets() {
				if !yield(dataset, nil) {
					return
				}
			}
			if page.GetNextPageToken() == "" {
				return
			}
			request.PageToken = page.GetNextPageToken()
		}
	}
}

// Dataset is one data set, by its name or the SHA-256 of its contents. It fails with ErrNotFound.
func (c *Client) Dataset(ctx context.Context, dataset string) (*v1.Dataset, error) {
	response, err := call(ctx, c.data.GetDataset, &v1.GetDatasetRequest{Dataset: dataset}, callTimeout)
	return response.GetDataset(), err
}

// DeleteDataset forgets a name, and the contents with the last name they have. It fails with ErrWrongState while a job needs them.
func (c *Client) DeleteDataset(ctx context.Context, name string) error {
	_, err := call(ctx, c.data.DeleteDataset, &v1.DeleteDatasetRequest{Name: name}, callTimeout)
	return err
}

// Artifacts are the job's output first, then its complete checkpoints, newest first.
func (c *Client) Artifacts(ctx context.Context, job string) ([]*v1.Artifact, error) {
	response, err := call(ctx, c.artifacts.ListArtifacts, &v1.ListArtifactsRequest{Job: job}, callTimeout)
	return response.GetArtifacts(), err
}

// DeleteArtifact removes a checkpoint. It fails with ErrWrongState for one that is still needed, and for an output.
func (c *Client) DeleteArtifact(ctx context.Context, job, artifact string) error {
	request := &v1.DeleteArtifactRequest{Job: job, Artifact: artifact}
	_, err := call(ctx, c.artifacts.DeleteArtifact, request, callTimeout)
	return err
}
