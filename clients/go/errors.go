package finetuned

import (
	"context"
	"errors"
	"fmt"

	v1 "finetuned.dev/go/finetuned/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What can go wrong with a call, for errors.Is. The whole story is in *Error, for errors.As.
var (
	ErrInvalidSpec      = errors.New("the spec has problems")
	ErrInvalidRequest   = errors.New("the call cannot be meant")
	ErrNotFound         = errors.New("there is no such thing")
	ErrAmbiguous        = errors.New("several jobs have this prefix or name")
	ErrAlreadyExists    = errors.New("the key was used for something else")
	ErrWrongState       = errors.New("it is in a state that has no such move")
	ErrNotPrepared      = errors.New("the job's data is not prepared yet")
	ErrDataRefused      = errors.New("the data of the spec cannot be used")
	ErrLimitReached     = errors.New("a limit of the daemon, or its disk, is reached")
	ErrAuth             = errors.New("the caller is not known, or not allowed this call")
	ErrDeadlineExceeded = errors.New("there was no answer in time")
	ErrUnavailable      = errors.New("the daemon cannot be reached")
	ErrCursorTooOld     = errors.New("changes after this cursor are not kept any more")
	ErrCorrupted        = errors.New("what came is not what was sent")
)

var byReason = map[string]error{
	"INVALID_SPEC":      ErrInvalidSpec,
	"INVALID_REQUEST":   ErrInvalidRequest,
	"JOB_NOT_FOUND":     ErrNotFound,
	"JOB_AMBIGUOUS":     ErrAmbiguous,
	"REQUEST_ID_REUSED": ErrAlreadyExists,
	"JOB_FINISHED":      ErrWrongState,
	"WRONG_STATE":       ErrWrongState,
	"NOT_PREPARED":      ErrNotPrepared,
	"DATA_REFUSED":      ErrDataRefused,
	"CURSOR_TOO_OLD":    ErrCursorTooOld,
}

var byCode = map[codes.Code]error{
	codes.InvalidArgument:    ErrInvalidRequest,
	codes.NotFound:           ErrNotFound,
	codes.AlreadyExists:      ErrAlreadyExists,
	codes.FailedPrecondition: ErrWrongState,
	codes.DataLoss:           ErrCorrupted,
	codes.ResourceExhausted:  ErrLimitReached,
	codes.Unauthenticated:    ErrAuth,
	codes.PermissionDenied:   ErrAuth,
	codes.DeadlineExceeded:   ErrDeadlineExceeded,
	codes.Unavailable:        ErrUnavailable,
}

// Error is a call that the daemon refused, or that did not reach it. errors.Is tells its kind, and status.FromError works as
// for any error of grpc.
type Error struct {
	// Reason is the daemon's stable word for the cause, e.g. "JOB_NOT_FOUND"; empty if it gave none.
	Reason string
	// RequestID is the key of the submit that failed, with which it may be repeated safely; empty for other calls.
	RequestID string
	// Violations are all problems of a spec.
	Violations []Violation

	status *status.Status
}

// Violation is one problem of a spec.
type Violation struct {
	// Field is a path into JobSpec, e.g. "training.batch.global_batch".
	Field string
	// Description says what is wrong and what would be accepted.
	Description string
}

// Error says what happened in one line.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("%s (%s)", e.status.Message(), e.status.Code())
	}
	return fmt.Sprintf("%s (%s)", e.status.Message(), e.Reason)
}

// GRPCStatus is the status as it came, with its details.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Unwrap gives the kind of the error, and the context's own error where the context has ended the call.
func (e *Error) Unwrap() []error {
	var kinds []error
	if kind := e.kind(); kind != nil {
		kinds = append(kinds, kind)
	}
	switch e.status.Code() {
	case codes.DeadlineExceeded:
		kinds = append(kinds, context.DeadlineExceeded)
	case codes.Canceled:
		kinds = append(kinds, context.Canceled)
	}
	return kinds
}

func (e *Error) kind() error {
	if kind, known := byReason[e.Reason]; known {
		return kind
	}
	return byCode[e.status.Code()]
}

// JobFailedError is what Wait returns for a job that has failed.
type JobFailedError struct {
	Job *v1.Job
	// LogTail is the end of what the job printed, at most 20 lines.
	LogTail []string
}

// Error says which job failed, and why.
func (e *JobFailedError) Error() string {
	return fmt.Sprintf("job %s (%s) failed: %s", e.Job.GetId(), e.Job.GetName(), e.Job.GetFailure().GetMessage())
}

// JobCancelledError is what Wait returns for a job that was cancelled.
type JobCancelledError struct {
	Job *v1.Job
}

// Error says which job was cancelled, and why.
func (e *JobCancelledError) Error() string {
	return fmt.Sprintf("job %s (%s) was cancelled: %s", e.Job.GetId(), e.Job.GetName(), e.Job.GetReason().GetMessage())
}

// toError gives an error of grpc its kind; another error stays as it is.
func toError(err error, requestID string) error {
	told, isStatus := status.FromError(err)
	if !isStatus {
		return err
	}
	made := &Error{RequestID: requestID, status: told}
	for _, detail := range told.Details() {
		switch found := detail.(type) {
		case *errdetails.ErrorInfo:
			made.Reason = found.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range found.GetFieldViolations() {
				made.Violations = append(made.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		}
	}
	return made
}

func unavailable(why string) error {
	message := "the daemon cannot be reached: " + why + "; start it with `ftd`, or set FTD_ADDRESS to where it listens"
	return &Error{status: status.New(codes.Unavailable, message)}
}
