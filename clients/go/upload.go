package finetuned

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bytes of a file in one message; the daemon takes twice as many.
const chunkBytes = 1 << 20

// TransferOption changes an upload or a download.
type TransferOption func(*transfer)

type transfer struct {
	progress func(done, total uint64)
}

// WithProgress is told how many bytes are there, and of how many. It is called from the goroutine that transfers.
func WithProgress(progress func(done, total uint64)) TransferOption {
	return func(t *transfer) { t.progress = progress }
}

func transferOf(options []TransferOption) transfer {
	made := transfer{progress: func(uint64, uint64) {}}
	for _, option := range options {
		option(&made)
	}
	return made
}

// Upload sends a file of rows to the daemon's host under a name that DataSource.dataset can mean. What is there already is not sent
// again; an upload that was cut, by this process or one before, goes on where the daemon has it. It fails with ErrAlreadyExists if
// other contents have the name, ErrLimitReached if they are too many, ErrCorrupted if the file changed meanwhile.
func (c *Client) Upload(ctx context.Context, name, path string, options ...TransferOption) (*v1.Dataset, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return nil, err
	}
	header := v1.UploadHeader{
		Name: name, File: filepath.Base(path), Sha256: hex.EncodeToString(hash.Sum(nil)), Bytes: uint64(size),
	}
	pauses, transfer := pauses{patience: c.patience}, transferOf(options)
	for {
		dataset, err := c.send(ctx, &header, file, func(done uint64) {
			pauses.heard()
			transfer.progress(done, header.Bytes)
		})
		if err == nil {
			return dataset, nil
		}
		if err := pauses.take(ctx, err); err != nil {
			return nil, err
		}
	}
}

// send sends what the daemon does not have, once. Its errors are those of grpc.
func (c *Client) send(
	ctx context.Context, header *v1.UploadHeader, file io.ReadSeeker, sent func(uint64),
) (*v1.Dataset, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	there, err := c.data.GetUpload(ctx, &v1.GetUploadRequest{Sha256: header.Sha256})
	if err != nil {
		return nil, err
	}
	header.Offset = there.GetOffset()
	if _, err := file.Seek(int64(header.Offset), io.SeekStart); err != nil {
		return nil, err
	}
	stream, err := c.data.UploadDataset(ctx)
	if err != nil {
		return nil, err
	}
	message := &v1.UploadDatasetRequest{Part: &v1.UploadDatasetRequest_Header{Header: header}}
	chunk, done := make([]byte, chunkBytes), header.Offset
	for {
		// The daemon has ended the call; why is in its answer.
		if err := stream.Send(message); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		sent(done)
		count, err := io.ReadFull(file, chunk)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		done += uint64(count)
		message = &v1.UploadDatasetRequest{Part: &v1.UploadDatasetRequest_Data{Data: chunk[:count]}}
	}
	response, err := stream.CloseAndRecv()
	if errors.Is(err, io.EOF) {
		return nil, status.Error(codes.Unavailable, "the upload was not answered")
	}
	return response.GetDataset(), err
}
