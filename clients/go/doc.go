// Package finetuned is the Go SDK of the finetuned daemon: submit fine-tuning jobs, follow them live, fetch what they leave.
//
//	client, err := finetuned.New("") // FTD_ADDRESS, or the sockets that the daemon makes by default
//	job, err := client.Submit(ctx, spec, finetuned.WithRequestID("my-run-17"))
//	for event, err := range client.Metrics(ctx, job.GetId()) { // reconnects by itself; ends when the job has
//		...
//	}
//	job, err = client.Wait(ctx, job.GetId())
//
// Messages are those of the generated package finetuned.dev/go/finetuned/v1; this package adds what a caller would otherwise
// write again and again: where the daemon is, which calls may be repeated, how a stream finds its place, what an error means.
// It never hides a field of the contract, and never repeats a call that could be heard twice.
//
// Wherever a method takes a job, it takes an id, a prefix of an id, or a name that only one job has. Each call and stream ends
// with its context; a call whose context has no deadline has 30 seconds. A Client may be used by many goroutines at once.
package finetuned
