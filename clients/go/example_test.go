package finetuned_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/protobuf/proto"
)

// A job from its submit to its output.
func Example() {
	ctx := context.Background()
	client, err := finetuned.New(daemon.Address) // "" is FTD_ADDRESS, or the sockets that the daemon makes by default
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	job, err := client.Submit(ctx, exampleSpec(), finetuned.WithRequestID("my-run-17"), finetuned.WithName("support-v3"))
	if err != nil {
		log.Fatal(err)
	}
	steps := 0
	for event, err := range client.Metrics(ctx, job.GetId()) { // reconnects by itself; ends when the job has
		if err != nil {
			log.Fatal(err)
		}
		if event.GetStep() != nil {
			steps++
		}
	}
	job, err = client.Wait(ctx, job.GetId())
	var failed *finetuned.JobFailedError
	if errors.As(err, &failed) {
		log.Fatal(failed, failed.Job.GetFailure().GetAdvice(), failed.LogTail)
	}
	fmt.Println(job.GetName(), "made", steps, "steps and is", job.GetState())
	// Output: support-v3 made 5 steps and is JOB_STATE_SUCCEEDED
}

// All problems of a spec come at once.
func ExampleClient_Submit() {
	client, err := finetuned.New(daemon.Address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	spec := exampleSpec()
	spec.Priority, spec.MaxRetries = proto.Int32(1000), proto.Int32(50)
	_, err = client.Submit(context.Background(), spec)
	var refused *finetuned.Error
	if errors.Is(err, finetuned.ErrInvalidSpec) && errors.As(err, &refused) {
		for _, violation := range refused.Violations {
			fmt.Println(violation.Field)
		}
	}
	// Unordered output:
	// priority
	// max_retries
}

func exampleSpec() *v1.JobSpec {
	spec := &v1.JobSpec{}
	proto.Merge(spec, daemon.example)
	return spec
}
