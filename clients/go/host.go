package finetuned

import (
	"context"

	v1 "finetuned.dev/go/finetuned/v1"
)

// Host is the daemon's host and its devices.
func (c *Client) Host(ctx context.Context) (*v1.GetHostResponse, error) {
	return call(ctx, c.host.GetHost, &v1.GetHostRequest{}, callTimeout)
}

// Queue is the jobs that wait, in the order they will be tried, each with its reason.
func (c *Client) Queue(ctx context.Context) ([]*v1.QueuedJob, error) {
	response, err := call(ctx, c.host.GetQueue, &v1.GetQueueRequest{}, callTimeout)
	return response.GetJobs(), err
}

// Projects tells of each project what it holds, has had and may have.
func (c *Client) Projects(ctx context.Context) ([]*v1.ProjectUse, error) {
	response, err := call(ctx, c.host.ListProjects, &v1.ListProjectsRequest{}, callTimeout)
	return response.GetProjects(), err
}

// QuarantineDevice starts nothing on the device any more; jobs on it go on. The device is an id, or as in "GPU 2".
func (c *Client) QuarantineDevice(ctx context.Context, device, reason string) error {
	request := &v1.QuarantineDeviceRequest{Device: device, Reason: reason}
	_, err := call(ctx, c.host.QuarantineDevice, request, callTimeout)
	return err
}

// ReleaseDevice ends a device's quarantine, whoever began it.
func (c *Client) ReleaseDevice(ctx context.Context, device string) error {
	_, err := call(ctx, c.host.ReleaseDevice, &v1.ReleaseDeviceRequest{Device: device}, callTimeout)
	return err
}
