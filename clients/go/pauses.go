package finetuned

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Pauses between the tries to start a stream again: from, to.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = time.Second
)

// pauses is how long to wait before a stream that was cut is started again: longer each time, not longer than patience in all.
type pauses struct {
	patience time.Duration
	pause    time.Duration
	since    time.Time
}

// heard says that the daemon is there.
func (p *pauses) heard() {
	p.since = time.Time{}
}

// take waits after a stream was cut. It returns the error to give up with: where err is none of a daemon that went away, where
// patience or the context is over.
func (p *pauses) take(ctx context.Context, err error) error {
	if !isCut(ctx, err) {
		return toError(err, "")
	}
	if p.since.IsZero() {
		p.pause, p.since = firstPause, time.Now()
	}
	if time.Since(p.since)+p.pause > p.patience {
		if errors.Is(err, io.EOF) {
			return unavailable("it ends its streams before they are over")
		}
		return toError(err, "")
	}
	select {
	case <-ctx.Done():
		return toError(status.FromContextError(ctx.Err()).Err(), "")
	case <-time.After(p.pause):
	}
	p.pause = min(2*p.pause, longestPause)
	return nil
}

// isCut is whether the daemon went away, as against: it refused. One that shuts down cancels its streams.
func isCut(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	code := status.Code(err)
	return errors.Is(err, io.EOF) || code == codes.Unavailable || code == codes.Canceled
}
