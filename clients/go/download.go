package finetuned

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "finetuned.dev/go/finetuned/v1"
)

// Download fetches an artifact of the job, "output" or e.g. "checkpoint-200", into a folder, which is made. Each file is there whole
// and with its checksum, or as FILE.part, from which the next call goes on; files that are there already are not fetched again. It
// fails with ErrNotFound if there is no such artifact, and with ErrCorrupted if what came is not what was sent.
func (c *Client) Download(ctx context.Context, job, artifact, folder string, options ...TransferOption) error {
	found, err := c.artifact(ctx, job, artifact)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	// No name that the daemon sends leads out of the folder.
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	transfer, before := transferOf(options), uint64(0)
	for _, file := range found.GetFiles() {
		got := func(done uint64) { transfer.progress(before+done, found.GetBytes()) }
		if err := c.fetch(ctx, root, job, artifact, file, got); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(folder, file.GetPath()), err)
		}
		before += file.GetBytes()
	}
	return nil
}

func (c *Client) artifact(ctx context.Context, job, name string) (*v1.Artifact, error) {
	all, err := c.Artifacts(ctx, job)
	if err != nil {
		return nil, err
	}
	for _, artifact := range all {
		if artifact.GetName() == name {
			return artifact, nil
		}
	}
	return nil, fmt.Errorf("job %s has no artifact %q: %w", job, name, ErrNotFound)
}

// fetch brings one file.
func (c *Client) fetch(
	ctx context.Context, root *os.Root, job, artifact string, file *v1.ArtifactFile, got func(uint64),
) error {
	if digest, err := digestOf(root, file.GetPath()); err == nil && digest == file.GetSha256() {
		got(file.GetBytes())
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(file.GetPath()), 0o777); err != nil {
		return err
	}
	part := file.GetPath() + ".part"
	pauses := pauses{patience: c.patience}
	for {
		err := c.append(ctx, root, part, job, artifact, file, func(done uint64) {
			pauses.heard()
			got(done)
		})
		if err == nil {
			break
		}
		if err := pauses.take(ctx, err); err != nil {
			return err
		}
	}
	digest, err := digestOf(root, part)
	if err != nil {
		return err
	}
	if digest != file.GetSha256() {
		// What is wrong cannot be gone on from.
		return errors.Join(ErrCorrupted, root.Remove(part))
	}
	return root.Rename(part, file.GetPath())
}

// append asks once for what the part does not have yet. Its errors are those of grpc, and of the disk.
func (c *Client) append(
	ctx context.Context, root *os.Root, part, job, artifact string, file *v1.ArtifactFile, got func(uint64),
) error {
	local, err := root.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	defer local.Close()
	done, err := sizeOf(local)
	if err != nil {
		return err
	}
	if done > file.GetBytes() {
		done = 0
		if err := local.Truncate(0); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &v1.DownloadArtifactRequest{Job: job, Artifact: artifact, File: file.GetPath(), Offset: done}
	stream, err := c.artifacts.DownloadArtifact(ctx, request)
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) && done == file.GetBytes() {
			return local.Close()
		} else if err != nil {
			return err
		}
		if _, err := local.Write(message.GetData()); err != nil {
			return err
		}
		done += uint64(len(message.GetData()))
		got(done)
	}
}

func sizeOf(file fs.File) (uint64, error) {
	told, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return uint64(told.Size()), nil
}

func digestOf(root *os.Root, path string) (string, error) {
	file, err := root.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	return hex.EncodeToString(hash.Sum(nil)), err
}
