package finetuned_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protojson"
)

// served is a real daemon with the fake trainer, and a fake one that cuts streams; see tests/support/served.py.
type served struct {
	Address string `json:"address"`
	Cutting string `json:"cutting"`
	// Job is one of the fake daemon's that has ended, after so many records.
	Job     string `json:"job"`
	Records int    `json:"records"`

	// What the examples submit.
	example *v1.JobSpec

	process *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
}

// One for all tests: its start takes longer than most of them.
var daemon *served

const root = "../.."

func TestMain(m *testing.M) {
	var err error
	if daemon, err = serve(); err != nil {
		fmt.Fprintln(os.Stderr, "no daemon for the tests:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := daemon.close(); err != nil {
		fmt.Fprintln(os.Stderr, "the daemon did not end well:", err)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func serve() (*served, error) {
	command := exec.Command(".venv/bin/python", "-m", "tests.support.served")
	command.Dir, command.Stderr = root, os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	made := &served{process: command, input: input, output: bufio.NewReader(output)}
	if err := made.hear(made); err != nil {
		return nil, err
	}
	made.example, err = made.makeSpec(map[string]any{}, map[string]any{})
	return made, err
}

func (s *served) close() error {
	if err := s.input.Close(); err != nil {
		return err
	}
	return s.process.Wait()
}

func (s *served) hear(into any) error {
	line, err := s.output.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// ask has something done.
func (s *served) ask(said map[string]any) (json.RawMessage, error) {
	var answer json.RawMessage
	line, err := json.Marshal(said)
	if err != nil {
		return nil, err
	}
	if _, err := s.input.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	err = s.hear(&answer)
	return answer, err
}

// do has something done, in a test.
func (s *served) do(t *testing.T, said map[string]any) {
	t.Helper()
	if _, err := s.ask(said); err != nil {
		t.Fatal(err)
	}
}

func (s *served) makeSpec(script, fields map[string]any) (*v1.JobSpec, error) {
	answer, err := s.ask(map[string]any{"do": "spec", "script": script, "fields": fields})
	if err != nil {
		return nil, err
	}
	spec := &v1.JobSpec{}
	return spec, protojson.Unmarshal(answer, spec)
}

// spec is one that the daemon accepts, for a training that does as script says; fields are those of JobSpec in JSON.
func (s *served) spec(t *testing.T, script, fields map[string]any) *v1.JobSpec {
	t.Helper()
	if script == nil {
		script = map[string]any{}
	}
	if fields == nil {
		fields = map[string]any{}
	}
	return must(s.makeSpec(script, fields))(t)
}

// connect is a client of the daemon at address that does not wait long.
func connect(t *testing.T, address string, options ...finetuned.Option) *finetuned.Client {
	t.Helper()
	client, err := finetuned.New(address, append([]finetuned.Option{finetuned.WithPatience(20 * time.Second)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// within is a context for one test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// must is a value that no error may come with.
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
