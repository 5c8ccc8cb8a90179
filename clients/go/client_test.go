package finetuned_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestASubmitSaidTwiceIsOneJob(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	spec := daemon.spec(t, nil, nil)
	before := proto.Clone(spec)
	first := must(client.Submit(ctx, spec, finetuned.WithRequestID("twice"), finetuned.WithName("one"), finetuned.WithLabel("team", "cx")))(t)
	second := must(client.Submit(ctx, spec, finetuned.WithRequestID("twice"), finetuned.WithName("one"), finetuned.WithLabel("team", "cx")))(t)
	if first.GetId() != second.GetId() {
		t.Errorf("%s and %s", first.GetId(), second.GetId())
	}
	if first.GetName() != "one" || first.GetLabels()["team"] != "cx" {
		t.Errorf("name and label are not there: %v", first)
	}
	if !proto.Equal(before, spec) {
		t.Error("the caller's spec was changed")
	}
	third := must(client.Submit(ctx, spec))(t)
	fourth := must(client.Submit(ctx, spec))(t)
	if third.GetId() == fourth.GetId() {
		t.Error("two submits without a key made one job")
	}
}

func TestAnErrorTellsItsKindAndKeepsTheStatus(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	_, err := client.Submit(ctx, &v1.JobSpec{MaxRetries: proto.Int32(50)}, finetuned.WithRequestID("wrong"))
	var told *finetuned.Error
	if !errors.Is(err, finetuned.ErrInvalidSpec) || !errors.As(err, &told) {
		t.Fatalf("%v", err)
	}
	if told.RequestID != "wrong" || told.Reason != "INVALID_SPEC" || len(told.Violations) < 2 {
		t.Errorf("%+v", told)
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the status is %v", status.Code(err))
	}
}

func TestWhereNobodyListensItSaysWhatWasTried(t *testing.T) {
	path := t.TempDir() + "/none.sock"
	_, err := finetuned.New("unix:" + path)
	if !errors.Is(err, finetuned.ErrUnavailable) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	t.Setenv("FTD_ADDRESS", daemon.Address)
	client := connect(t, "")
	if must(client.Host(within(t)))(t).GetVersion() == "" {
		t.Error("the daemon has no version")
	}
}

func TestATokenNeedsTLS(t *testing.T) {
	if _, err := finetuned.New("gpu1.example.com:7447", finetuned.WithToken("secret")); err == nil {
		t.Error("the token would go over the wire as it is")
	}
	connect(t, daemon.Address, finetuned.WithToken("secret"))
}

func TestAContextEndsACall(t *testing.T) {
	client := connect(t, daemon.Address)
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err := client.Host(ctx)
	if !errors.Is(err, finetuned.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := client.Host(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestALifeOfAJob(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	held := must(client.Submit(ctx, daemon.spec(t, map[string]any{"steps": 1000, "step_seconds": 0.02}, nil), finetuned.WithHold()))(t)
	job := held.GetId()
	if held.GetState() != v1.JobState_JOB_STATE_PAUSED {
		t.Fatalf("it is %v", held.GetState())
	}
	must(client.Release(ctx, job))(t)
	for event, err := range client.Metrics(ctx, job) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetStep().GetStep() == 3 {
			break
		}
	}
	must(client.Explain(ctx, job))(t)
	if _, err := client.Hold(ctx, job); !errors.Is(err, finetuned.ErrWrongState) {
		t.Errorf("a running job was held: %v", err)
	}
	updated := must(client.Update(ctx, &v1.UpdateJobRequest{Job: job, Priority: 7, UpdateMask: mask("priority")}))(t)
	if updated.GetPriority() != 7 {
		t.Errorf("the priority is %d", updated.GetPriority())
	}
	must(client.Save(ctx, job))(t)
	must(client.Stop(ctx, job))(t)
	ended := must(client.Wait(ctx, job))(t)
	if ended.GetReason().GetCode() != v1.ReasonCode_REASON_CODE_STOPPED_EARLY {
		t.Errorf("it ended with %v", ended.GetReason())
	}
	if _, err := client.Cancel(ctx, job); !errors.Is(err, finetuned.ErrWrongState) {
		t.Errorf("%v", err)
	}
	if err := client.Delete(ctx, job); err != nil {
		t.Error(err)
	}
	if _, err := client.Get(ctx, job); !errors.Is(err, finetuned.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestAListIsReadPageByPage(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	for range 5 {
		must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithHold(), finetuned.WithLabel("list", "five")))(t)
	}
	count := 0
	for job, err := range client.List(ctx, &v1.ListJobsRequest{Selector: "list=five", PageSize: 2}) {
		if err != nil || job.GetState() != v1.JobState_JOB_STATE_PAUSED {
			t.Fatal(job, err)
		}
		count++
	}
	if count != 5 {
		t.Errorf("%d jobs", count)
	}
	for job, err := range client.List(ctx, nil) {
		if err != nil || job == nil {
			t.Error(job, err)
		}
		break
	}
}

func TestWaitTellsHowAJobFailed(t *testing.T) {
	client, ctx := connect(t, daemon.Address), within(t)
	failing := must(client.Submit(ctx, daemon.spec(t, map[string]any{"fail_at": 2, "print_lines": 1}, nil)))(t)
	_, err := client.Wait(ctx, failing.GetId())
	var failed *finetuned.JobFailedError
	if !errors.As(err, &failed) || failed.Job.GetFailure() == nil || len(failed.LogTail) == 0 {
		t.Fatalf("%v", err)
	}
	cancelled := must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithHold()))(t)
	must(client.Cancel(ctx, cancelled.GetId()))(t)
	_, err = client.Wait(ctx, cancelled.GetId())
	var gone *finetuned.JobCancelledError
	if !errors.As(err, &gone) {
		t.Errorf("%v", err)
	}
	waiting := must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithHold()))(t)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := client.Wait(short, waiting.GetId()); !errors.Is(err, finetuned.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	polled := must(client.WaitJob(ctx, &v1.WaitJobRequest{Job: waiting.GetId(), TimeoutSeconds: proto.Float64(0)}))(t)
	if polled.GetReached() {
		t.Error("a held job has ended")
	}
}
