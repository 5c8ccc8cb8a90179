// A service that trains for others: it takes specs over HTTP, hands them to the daemon, and says how they end.
//
//	go run . localhost:8080
//	curl -H 'Idempotency-Key: order-17' -d @spec.json localhost:8080/trainings
//	curl localhost:8080/trainings/ID
//
// It keeps nothing itself: the daemon's queue is on disk, and a submit with the same key makes no second job.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"finetuned.dev/go"
	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/protobuf/encoding/protojson"
)

type service struct{ client *finetuned.Client }

func main() {
	client, err := finetuned.New("")
	if err != nil {
		log.Fatal(err)
	}
	served := service{client}
	http.HandleFunc("POST /trainings", served.submit)
	http.HandleFunc("GET /trainings/{job}", served.wait)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening at", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

// submit queues the spec in the body, in protobuf's JSON.
func (s service) submit(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		answer(w, nil, err)
		return
	}
	spec := &v1.JobSpec{}
	if err := protojson.Unmarshal(body, spec); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var options []finetuned.SubmitOption
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		options = append(options, finetuned.WithRequestID(key))
	}
	job, err := s.client.Submit(r.Context(), spec, options...)
	answer(w, job, err)
}

// wait answers when the training has ended, or its client has left.
func (s service) wait(w http.ResponseWriter, r *http.Request) {
	job, err := s.client.Wait(r.Context(), r.PathValue("job"))
	var failed *finetuned.JobFailedError
	var cancelled *finetuned.JobCancelledError
	// How it ended stands in the job.
	if errors.As(err, &failed) || errors.As(err, &cancelled) {
		err = nil
	}
	answer(w, job, err)
}

func answer(w http.ResponseWriter, job *v1.Job, err error) {
	switch {
	case errors.Is(err, finetuned.ErrInvalidSpec):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, finetuned.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, finetuned.ErrAlreadyExists):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		text, err := protojson.Marshal(job)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(text)
	}
}
