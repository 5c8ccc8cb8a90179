package finetuned

import (
	"context"
	"errors"
	"io"
	"iter"

	v1 "finetuned.dev/go/finetuned/v1"
)

// Generate yields what a chat job answers to the messages, piece by piece, and last the end of the answer with its counts. It is not
// started again where it is cut: the answer would be another one. Leaving the loop stops the answer. It fails with ErrWrongState while
// the chat does not run, and with ErrInvalidRequest for a job that is none.
func (c *Client) Generate(ctx context.Context, request *v1.GenerateRequest) iter.Seq2[*v1.GenerateResponse, error] {
	return func(yield func(*v1.GenerateResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.chat.Generate(ctx, request)
		for err == nil {
			var part *v1.GenerateResponse
			if part, err = stream.Recv(); err == nil && !yield(part, nil) {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			yield(nil, toError(err, ""))
		}
	}
}
