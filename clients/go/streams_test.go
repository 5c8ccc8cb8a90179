package finetuned_test

import (
	"errors"
	"iter"
	"slices"
	"testing"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func mask(paths ...string) *fieldmaskpb.FieldMask {
	return &fieldmaskpb.FieldMask{Paths: paths}
}

func TestAStreamGoesOnWhenTheDaemonWasKilled(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	script := map[string]any{"steps": 120, "step_seconds": 0.02}
	job := must(client.Submit(ctx, daemon.spec(t, script, nil)))(t).GetId()
	var last uint64
	for event, err := range client.Metrics(ctx, job) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Seq != last+1 {
			t.Fatalf("%d comes after %d", event.Seq, last)
		}
		last = event.Seq
		if event.GetStep().GetStep() == 20 {
			daemon.do(t, map[string]any{"do": "kill"})
			daemon.do(t, map[string]any{"do": "start"})
		}
	}
	ended := must(client.Get(ctx, job))(t)
	if !finetuned.Ended(ended) || ended.GetProgress().GetLastSeq() != last {
		t.Errorf("it ends with %d of %v", last, ended.GetProgress())
	}
}

func TestTheEndOfALog(t *testing.T) {
	client, ctx := connect(t, daemon.Cutting), within(t)
	var numbers []uint64
	for line, err := range client.Logs(ctx, daemon.Job, finetuned.Tail(3), finetuned.NoFollow()) {
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, line.Seq)
	}
	if !slices.Equal(numbers, []uint64{8, 9, 10}) {
		t.Errorf("%v", numbers)
	}
}

func TestAStreamOfNoJobFailsAtOnce(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	for _, err := range client.Metrics(ctx, "nothing-like-it") {
		if !errors.Is(err, finetuned.ErrNotFound) {
			t.Errorf("%v", err)
		}
		return
	}
	t.Error("it has ended without an error")
}

func TestChangesAreFollowedFromACursor(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	job := must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithLabel("changes", "yes")))(t).GetId()
	must(client.Wait(ctx, job))(t)
	request := &v1.WatchJobsRequest{Selector: "changes=yes", NoFollow: true}
	all := changes(t, client.WatchJobs(ctx, request))
	if len(all) < 3 || all[len(all)-1].GetTransition().GetToState() != v1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("%v", all)
	}
	request.Cursor = all[0].GetCursor()
	if rest := changes(t, client.WatchJobs(ctx, request)); len(rest) != len(all)-1 {
		t.Errorf("%d of %d changes come after the first", len(rest), len(all))
	}
}

func changes(t *testing.T, told iter.Seq2[*v1.JobChange, error]) []*v1.JobChange {
	t.Helper()
	var all []*v1.JobChange
	for change, err := range told {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, change)
	}
	return all
}
