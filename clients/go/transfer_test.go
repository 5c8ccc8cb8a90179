package finetuned_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"finetuned.dev/go"
)

func TestAnUploadGoesOnWhereItWasCut(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	rows := bytes.Repeat([]byte(`{"text": "a row that is sent to the daemon"}`+"\n"), 100_000)
	if err := os.WriteFile(path, rows, 0o600); err != nil {
		t.Fatal(err)
	}
	killed := false
	dataset := must(client.Upload(ctx, "sent-from-go", path, finetuned.WithProgress(func(done, total uint64) {
		if total != uint64(len(rows)) {
			t.Errorf("%d of %d", done, total)
		}
		if !killed && done > total/2 {
			killed = true
			daemon.do(t, map[string]any{"do": "kill"})
			daemon.do(t, map[string]any{"do": "start"})
		}
	})))(t)
	if !killed || dataset.GetBytes() != uint64(len(rows)) || dataset.GetFile() != "rows.jsonl" {
		t.Errorf("%v", dataset)
	}
	if found := must(client.Dataset(ctx, dataset.GetSha256()))(t); found.GetName() != "sent-from-go" {
		t.Errorf("%v", found)
	}
	sent := 0
	must(client.Upload(ctx, "the-same", path, finetuned.WithProgress(func(uint64, uint64) { sent++ })))(t)
	if sent != 1 {
		t.Errorf("what was there was sent again, in %d messages", sent-1)
	}
	for dataset, err := range client.Datasets(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if err := client.DeleteDataset(ctx, dataset.GetName()); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.Dataset(ctx, "the-same"); !errors.Is(err, finetuned.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestADownloadIsWholeOrGoesOn(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	spec := daemon.spec(t, map[string]any{"steps": 4, "checkpoint_every": 2}, nil)
	job := must(client.Submit(ctx, spec))(t).GetId()
	must(client.Wait(ctx, job))(t)
	artifacts := must(client.Artifacts(ctx, job))(t)
	folder := filepath.Join(t.TempDir(), "got")
	var told uint64
	for range 2 {
		err := client.Download(ctx, job, "checkpoint-2", folder, finetuned.WithProgress(func(done, _ uint64) { told = done }))
		if err != nil {
			t.Fatal(err)
		}
	}
	want := artifacts[len(artifacts)-1]
	state := must(os.ReadFile(filepath.Join(folder, "state.json")))(t)
	if want.GetName() != "checkpoint-2" || told != want.GetBytes() || !bytes.Contains(state, []byte(`"step": 2`)) {
		t.Errorf("%d bytes of %v: %s", told, want, state)
	}
	if err := client.Download(ctx, job, "checkpoint-7", folder); !errors.Is(err, finetuned.ErrNotFound) {
		t.Errorf("%v", err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.MkdirAll(wrong, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(wrong, "state.json.part"), []byte("!!"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := client.Download(ctx, job, "checkpoint-2", wrong); !errors.Is(err, finetuned.ErrCorrupted) {
		t.Errorf("a wrong beginning was believed: %v", err)
	}
	if err := client.Download(ctx, job, "checkpoint-2", wrong); err != nil {
		t.Errorf("it is not fetched anew: %v", err)
	}
	if err := client.DeleteArtifact(ctx, job, "output"); !errors.Is(err, finetuned.ErrWrongState) {
		t.Errorf("%v", err)
	}
	if err := client.DeleteArtifact(ctx, job, "checkpoint-2"); err != nil {
		t.Error(err)
	}
}
