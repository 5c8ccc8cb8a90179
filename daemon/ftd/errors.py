"""Everything that can go wrong in a way a caller should know, as one tree.

    FtdError
    ├── InvalidSpec        INVALID_ARGUMENT     every violation at once
    │   └── TooLarge                            all that is wrong is its size; has what would make it fit
    ├── InvalidRequest     INVALID_ARGUMENT     a request other than a spec is malformed
    ├── CursorTooOld       OUT_OF_RANGE         changes after this cursor are not kept any more
    ├── JobNotFound        NOT_FOUND
    ├── JobAmbiguous       FAILED_PRECONDITION  a prefix or name that several jobs have
    ├── RequestIdReused    ALREADY_EXISTS       same request_id, another spec
    ├── JobFinished        FAILED_PRECONDITION  cancel of a job that has ended
    ├── WrongState         FAILED_PRECONDITION  pause, resume, retry, delete in a state that has no such move
    ├── JobNeeded          FAILED_PRECONDITION  delete of a job that others come after
    ├── DatasetNotFound    NOT_FOUND
    ├── DatasetExists      ALREADY_EXISTS       other contents have the name
    ├── DatasetNeeded      FAILED_PRECONDITION  delete of contents that jobs use
    ├── UploadOffset       FAILED_PRECONDITION  an upload that would leave a gap
    ├── UploadIncomplete   FAILED_PRECONDITION  one that ends before its size
    ├── UploadTakenOver    ABORTED              one that another of the same contents has ended
    ├── ChecksumMismatch   DATA_LOSS
    ├── ArtifactNotFound   NOT_FOUND            no such artifact, or no such file in it
    ├── ArtifactNeeded     FAILED_PRECONDITION  delete of what a job needs
    ├── ArtifactChanged    DATA_LOSS            it is no longer what its manifest says
    ├── NotPrepared        FAILED_PRECONDITION
    ├── DataRefused        FAILED_PRECONDITION  a look at data that no job could train on
    ├── LookTooLong        DEADLINE_EXCEEDED
    ├── ChatEnded          ABORTED              a chat that ends in the middle of an answer
    ├── DeviceNotFound     NOT_FOUND
    ├── TooMuch            RESOURCE_EXHAUSTED   a limit of the daemon is reached
    ├── DiskFull           RESOURCE_EXHAUSTED
    ├── DevicesUnreadable  UNAVAILABLE
    ├── JournalCorrupt     DATA_LOSS            in `ftd.journal`
    └── IllegalMove        INTERNAL             a bug: the state machine was driven wrongly

Each class knows its gRPC status code name and its stable reason (google.rpc.ErrorInfo.reason); one interceptor
converts. Messages name what the caller sent, never internal paths or values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ftd.job import Job
    from ftd.moves import Event
    from ftd.records import Failure, Fix


@dataclass(frozen=True, slots=True)
class Violation:
    """One problem of a spec: `field` is a path into JobSpec, `description` says what is wrong and what is accepted."""

    field: str
    description: str


class FtdError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"


class InvalidSpec(FtdError):
    """A spec with problems, all of them."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_SPEC"

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        count = len(self.violations)
        lines = "; ".join(f"{v.field}: {v.description}" for v in self.violations)
        super().__init__(f"the spec has {count} problem{'s' if count != 1 else ''}: {lines}")


class TooLarge(InvalidSpec):
    """A spec that is good but for its size, which no devices of this host could hold."""

    def __init__(self, violations: Sequence[Violation], fixes: Sequence[Fix]) -> None:
        super().__init__(violations)
        self.fixes = tuple(fixes)


class InvalidRequest(FtdError):
    """A request that cannot be meant, e.g. a page token of another list."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_REQUEST"


class CursorTooOld(FtdError):
    """Changes that should be told are forgotten already."""

    code = "OUT_OF_RANGE"
    reason = "CURSOR_TOO_OLD"

    def __init__(self, missed: int) -> None:
        super().__init__(
            f"{missed} changes after this cursor are not kept any more; list the jobs, and begin anew without one"
        )


class JobNotFound(FtdError):
    """No job has this id, prefix or name."""

    code = "NOT_FOUND"
    reason = "JOB_NOT_FOUND"

    def __init__(self, job: str) -> None:
        super().__init__(f"no job has the id, id prefix or name {job!r}")


class JobAmbiguous(FtdError):
    """Several jobs have this prefix or name."""

    code = "FAILED_PRECONDITION"
    reason = "JOB_AMBIGUOUS"

    def __init__(self, job: str, ids: Sequence[str]) -> None:
        shown = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
        super().__init__(f"{job!r} names {len(ids)} jobs: {shown}; give a longer prefix or a whole id")


class RequestIdReused(FtdError):
    """The request_id was used before for another spec."""

    code = "ALREADY_EXISTS"
    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, job: str, differences: Sequence[str]) -> None:
        fields = ", ".join(differences)
        super().__init__(f"request_id {request_id!r} already made job {job} with another spec; they differ in {fields}")


class JobFinished(FtdError):
    """The job has ended already."""

    code = "FAILED_PRECONDITION"
    reason = "JOB_FINISHED"

    def __init__(self, job: str, state: str) -> None:
        super().__init__(f"job {job} has already ended: {state}")


class WrongState(FtdError):
    """The job is in a state in which this cannot be done."""

    code = "FAILED_PRECONDITION"
    reason = "WRONG_STATE"

    def __init__(self, job: str, state: str, verb: str, accepted: str) -> None:
        super().__init__(f"cannot {verb} job {job}: it is {state}; {verb} needs a job that is {accepted}")


class JobNeeded(FtdError):
    """Other jobs that have not ended come after this one."""

    code = "FAILED_PRECONDITION"
    reason = "JOB_NEEDED"

    def __init__(self, job: str, after: Sequence[str]) -> None:
        super().__init__(f"cannot delete job {job}: {', '.join(after)} come after it; wait for them or cancel them")


class DeviceNotFound(FtdError):
    """No device has this id or label."""

    code = "NOT_FOUND"
    reason = "DEVICE_NOT_FOUND"

    def __init__(self, device: str, known: Sequence[str]) -> None:
        super().__init__(f"no device has the id or label {device!r}; there are {', '.join(known)}")


class DatasetNotFound(FtdError):
    """No data set has this name or these contents."""

    code = "NOT_FOUND"
    reason = "DATASET_NOT_FOUND"

    def __init__(self, dataset: str) -> None:
        super().__init__(f"no data set has the name or SHA-256 {dataset!r}")


class DatasetExists(FtdError):
    """The name belongs to other contents."""

    code = "ALREADY_EXISTS"
    reason = "DATASET_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"data set {name!r} is there already, with other contents; give another name, or delete it first"
        )


class DatasetNeeded(FtdError):
    """Jobs that have not ended use the contents."""

    code = "FAILED_PRECONDITION"
    reason = "DATASET_NEEDED"

    def __init__(self, name: str, jobs: Sequence[str]) -> None:
        shown = ", ".join(jobs[:5]) + (", …" if len(jobs) > 5 else "")
        super().__init__(f"cannot delete data set {name!r}: {len(jobs)} jobs use it ({shown}); wait or cancel them")


class UploadOffset(FtdError):
    """An upload begins after what the daemon has."""

    code = "FAILED_PRECONDITION"
    reason = "UPLOAD_OFFSET"

    def __init__(self, offset: int, have: int) -> None:
        super().__init__(f"header.offset is {offset}, but {have} bytes are here; ask GetUpload and go on from there")


class UploadIncomplete(FtdError):
    """An upload ended before its size."""

    code = "FAILED_PRECONDITION"
    reason = "UPLOAD_INCOMPLETE"

    def __init__(self, have: int, size: int) -> None:
        super().__init__(f"the upload ended after {have} of {size} bytes; ask GetUpload and go on from there")


class UploadTakenOver(FtdError):
    """A later upload of the same contents has ended this one."""

    code = "ABORTED"
    reason = "UPLOAD_TAKEN_OVER"

    def __init__(self) -> None:
        super().__init__("another upload of the same file began and goes on with it; wait for that one")


class ChecksumMismatch(FtdError):
    """What came is not what was announced."""

    code = "DATA_LOSS"
    reason = "CHECKSUM_MISMATCH"

    def __init__(self, wanted: str, found: str) -> None:
        short = f"{found[:12]}…, and {wanted[:12]}… was announced"
        super().__init__(f"the file came with SHA-256 {short}; nothing of it is kept, send it again")


class ArtifactNotFound(FtdError):
    """The job has no such artifact, or the artifact no such file."""

    code = "NOT_FOUND"
    reason = "ARTIFACT_NOT_FOUND"

    def __init__(self, what: str, wanted: str, known: Sequence[str]) -> None:
        has = f"it has {', '.join(known[:12])}{', …' if len(known) > 12 else ''}" if known else "it has none"
        super().__init__(f"{what} has no {wanted!r}; {has}")


class ArtifactNeeded(FtdError):
    """A job needs the artifact, or will."""

    code = "FAILED_PRECONDITION"
    reason = "ARTIFACT_NEEDED"

    def __init__(self, artifact: str, why: str) -> None:
        super().__init__(f"cannot delete {artifact}: {why}")


class ArtifactChanged(FtdError):
    """The artifact is no longer what it was when it was asked for."""

    code = "DATA_LOSS"
    reason = "ARTIFACT_CHANGED"

    def __init__(self, file: str) -> None:
        super().__init__(f"{file} is no longer what its manifest says; list the artifacts again")


class NotPrepared(FtdError):
    """The data of the job is not prepared yet."""

    code = "FAILED_PRECONDITION"
    reason = "NOT_PREPARED"

    def __init__(self, job: str) -> None:
        super().__init__(f"the data of job {job} is not prepared yet")


class DataRefused(FtdError):
    """The data of a spec cannot be used; the message says why, and what to change."""

    code = "FAILED_PRECONDITION"
    reason = "DATA_REFUSED"

    def __init__(self, failure: Failure | None) -> None:
        super().__init__("; ".join(filter(None, (failure.message, failure.advice))) if failure else "it was stopped")


class LookTooLong(FtdError):
    """A look at data did not come to its end in time."""

    code = "DEADLINE_EXCEEDED"
    reason = "LOOK_TOO_LONG"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the look was ended after {seconds:.0f} s; look at less, or submit the job and read its report"
        )


class ChatEnded(FtdError):
    """The job has ended, or was stopped, before its answer was whole."""

    code = "ABORTED"
    reason = "CHAT_ENDED"

    def __init__(self, job: str) -> None:
        super().__init__(f"job {job} ended before its answer was whole")


class TooMuch(FtdError):
    """A limit of the daemon is reached; try again later or with less."""

    code = "RESOURCE_EXHAUSTED"
    reason = "TOO_MUCH"


class DiskFull(FtdError):
    """The daemon's disk has no room for another job."""

    code = "RESOURCE_EXHAUSTED"
    reason = "DISK_FULL"


class DevicesUnreadable(FtdError):
    """The driver, or whatever tells the devices, does not answer now."""

    code = "UNAVAILABLE"
    reason = "DEVICES_UNREADABLE"

    def __init__(self) -> None:
        super().__init__("the devices of this host cannot be read just now; the daemon's log says why")


class IllegalMove(FtdError):
    """The state machine has no such move. A bug in the daemon; the message tells the job's story."""

    reason = "ILLEGAL_MOVE"

    def __init__(self, job: Job, event: Event) -> None:
        story = " -> ".join(str(t.to_state) for t in job.transitions) or str(job.state)
        super().__init__(f"job {job.id} is {job.state} and cannot take {type(event).__name__}; so far: {story}")
