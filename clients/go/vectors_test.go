package finetuned_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// The cases that both SDKs run; see tests/contract/vectors/README.md.

func cases[C any](t *testing.T, file string) []C {
	t.Helper()
	text := must(os.ReadFile(filepath.Join(root, "tests/contract/vectors", file+".json")))(t)
	var found struct{ Cases []C }
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Cases) == 0 {
		t.Fatal("there are no cases")
	}
	return found.Cases
}

func TestSpecs(t *testing.T) {
	client := connect(t, daemon.Address)
	for _, each := range cases[struct {
		Name       string
		Fields     map[string]any
		Violations []string
		Resolved   map[string]any
	}](t, "specs") {
		t.Run(each.Name, func(t *testing.T) {
			plan := must(client.Plan(within(t), daemon.spec(t, nil, each.Fields)))(t)
			var fields []string
			for _, violation := range plan.GetViolations() {
				fields = append(fields, violation.GetField())
			}
			slices.Sort(fields)
			if !slices.Equal(fields, each.Violations) {
				t.Errorf("problems in %v, not in %v", fields, each.Violations)
			}
			resolved := asJSON(t, plan.GetResolved(), protojson.MarshalOptions{})
			for path, value := range each.Resolved {
				if found := at(resolved, path); !reflect.DeepEqual(found, value) {
					t.Errorf("%s is %v, not %v", path, found, value)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	client := connect(t, daemon.Address)
	namedJobs(t, client)
	kinds := map[string]error{
		"AlreadyExists": finetuned.ErrAlreadyExists, "Ambiguous": finetuned.ErrAmbiguous,
		"InvalidRequest": finetuned.ErrInvalidRequest, "InvalidSpec": finetuned.ErrInvalidSpec,
		"NotFound": finetuned.ErrNotFound, "NotPrepared": finetuned.ErrNotPrepared, "WrongState": finetuned.ErrWrongState,
	}
	for _, each := range cases[struct{ Name, Call, Job, Kind, Reason, Code string }](t, "errors") {
		t.Run(each.Name, func(t *testing.T) {
			err := refused(t, client, each.Call, each.Job)
			var told *finetuned.Error
			if kind := kinds[each.Kind]; kind == nil || !errors.Is(err, kind) || !errors.As(err, &told) {
				t.Fatalf("%v is no %s", err, each.Kind)
			}
			if name := code.Code(status.Code(err)).String(); told.Reason != each.Reason || name != each.Code {
				t.Errorf("%s, %s", told.Reason, name)
			}
		})
	}
}

// namedJobs makes the jobs that errors.json speaks of.
func namedJobs(t *testing.T, client *finetuned.Client) {
	t.Helper()
	ctx := within(t)
	for _, name := range []string{"held", "twins", "twins"} {
		must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithName(name), finetuned.WithHold()))(t)
	}
	ended := must(client.Submit(ctx, daemon.spec(t, nil, nil), finetuned.WithName("ended")))(t)
	must(client.Wait(ctx, ended.GetId()))(t)
}

// refused is the error of a call by its name in the vectors.
func refused(t *testing.T, client *finetuned.Client, call, job string) error {
	t.Helper()
	ctx := within(t)
	var err error
	switch call {
	case "get":
		_, err = client.Get(ctx, job)
	case "cancel":
		_, err = client.Cancel(ctx, job)
	case "retry":
		_, err = client.Retry(ctx, job)
	case "delete":
		err = client.Delete(ctx, job)
	case "data_report":
		_, err = client.DataReport(ctx, job)
	case "submit_again":
		err = submitAgain(ctx, t, client)
	case "submit_wrong":
		_, err = client.Submit(ctx, daemon.spec(t, nil, map[string]any{"priority": 1000}))
	case "release_device":
		err = client.ReleaseDevice(ctx, job)
	case "dataset":
		_, err = client.Dataset(ctx, job)
	case "delete_artifact":
		err = client.DeleteArtifact(ctx, job, "output")
	case "generate":
		said := []*v1.ChatMessage{{Role: "user", Content: "Hello."}}
		for _, told := range client.Generate(ctx, &v1.GenerateRequest{Job: job, Messages: said}) {
			return told
		}
	case "watch_jobs":
		for _, told := range client.WatchJobs(ctx, &v1.WatchJobsRequest{Cursor: job}) {
			return told
		}
	default:
		t.Fatalf("nothing is called %q", call)
	}
	return err
}

func submitAgain(ctx context.Context, t *testing.T, client *finetuned.Client) error {
	t.Helper()
	spec := daemon.spec(t, nil, map[string]any{"hold": true})
	key := must(client.Submit(ctx, spec))(t).GetId()
	must(client.Submit(ctx, spec, finetuned.WithRequestID(key)))(t)
	spec.Priority = proto.Int32(1)
	_, err := client.Submit(ctx, spec, finetuned.WithRequestID(key))
	return err
}

func TestStreams(t *testing.T) {
	client := connect(t, daemon.Cutting)
	for _, each := range cases[struct {
		Name, Stream, Code string
		Cuts               []int
		After              uint64 `json:"after_seq"`
		Tail               uint64
		Seqs               []uint64
	}](t, "streams") {
		t.Run(each.Name, func(t *testing.T) {
			daemon.do(t, map[string]any{"do": "cut", "after": each.Cuts, "code": each.Code})
			seqs, ctx := []uint64{}, within(t)
			collect := func(seq uint64, err error) {
				if err != nil {
					t.Fatal(err)
				}
				seqs = append(seqs, seq)
			}
			if each.Stream == "logs" {
				for line, err := range client.Logs(ctx, daemon.Job, finetuned.AfterSeq(each.After), finetuned.Tail(each.Tail)) {
					collect(line.Seq, err)
				}
			} else {
				for event, err := range client.Metrics(ctx, daemon.Job, finetuned.AfterSeq(each.After)) {
					collect(event.Seq, err)
				}
			}
			if !slices.Equal(seqs, each.Seqs) {
				t.Errorf("%v", seqs)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	messages := map[string]proto.Message{
		"JobSpec": &v1.JobSpec{}, "Progress": &v1.Progress{}, "UpdateJobRequest": &v1.UpdateJobRequest{},
	}
	for _, each := range cases[struct {
		Name, Message string
		Read          json.RawMessage
		Written       map[string]any
	}](t, "json") {
		t.Run(each.Name, func(t *testing.T) {
			message := messages[each.Message].ProtoReflect().New().Interface()
			if err := protojson.Unmarshal(each.Read, message); err != nil {
				t.Fatal(err)
			}
			written := asJSON(t, message, protojson.MarshalOptions{UseProtoNames: true})
			if !reflect.DeepEqual(written, each.Written) {
				t.Errorf("%v", written)
			}
		})
	}
}

func asJSON(t *testing.T, message proto.Message, options protojson.MarshalOptions) map[string]any {
	t.Helper()
	var value map[string]any
	if err := json.Unmarshal(must(options.Marshal(message))(t), &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// at is the value at a path like "data.maxLength".
func at(value map[string]any, path string) any {
	name, rest, nested := strings.Cut(path, ".")
	if below, isMap := value[name].(map[string]any); nested && isMap {
		return at(below, rest)
	}
	return value[name]
}
