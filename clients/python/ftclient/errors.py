"""Everything that can go wrong for a caller, as one tree.

    FtError
    ├── ApiError            the daemon refused a call, or could not be asked: code, reason, request_id
    │   ├── InvalidSpec     every violation at once
    │   ├── InvalidRequest  the call itself is malformed
    │   ├── NotFound        no such job or device
    │   ├── Ambiguous       a prefix or name that several jobs have
    │   ├── AlreadyExists   the request_id was used for another spec
    │   ├── WrongState      the job is in a state that has no such move
    │   ├── NotPrepared     the job's data is not prepared yet
    │   ├── DataRefused     the data of a spec cannot be used
    │   ├── LimitReached    a limit of the daemon, or its disk, is reached
    │   ├── AuthError       not allowed
    │   ├── CursorTooOld    changes after the cursor are not kept any more
    │   ├── Corrupted       what came, here or there, is not what was sent
    │   ├── DeadlineExceeded
    │   └── Unavailable     nobody answers: what was tried
    ├── SpecFileError       problems in a spec file, all of them
    ├── ContextError        the file of contexts, or what it says, cannot be used
    ├── TransferError       a file of an upload or download cannot be read, written or believed
    ├── JobFailed           from `wait`: the job, its failure, the end of its log
    ├── JobCancelled        from `wait`
    └── WaitTimeout         from `wait`

`str(error)` says what happened in one line; `why` and `advice` are a line each, or empty. Nothing here knows gRPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftclient.results import Failure, Job, Violation


class FtError(Exception):
    """Root of the tree."""

    def __init__(self, message: str, *, why: str = "", advice: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.advice = advice


class ApiError(FtError):
    """A call that the daemon refused.

    `code` is the gRPC status code's name, `reason` the daemon's stable word for the cause (empty if it gave none),
    `request_id` the key of the submit that failed, with which it may be repeated safely (empty for other calls).
    """

    def __init__(
        self, message: str, *, code: str = "UNKNOWN", reason: str = "", request_id: str = "", advice: str = ""
    ) -> None:
        super().__init__(message, why=" ".join(dict.fromkeys(filter(None, (code, reason)))), advice=advice)
        self.code = code
        self.reason = reason
        self.request_id = request_id


class InvalidSpec(ApiError):
    """The spec has problems; `violations` has every one."""

    violations: tuple[Violation, ...] = ()


class InvalidRequest(ApiError):
    """The call cannot be meant, e.g. a page token of another list."""


class NotFound(ApiError):
    """No job has this id, prefix or name; or the host has no such device."""


class Ambiguous(ApiError):
    """Several jobs have this prefix or name."""


class AlreadyExists(ApiError):
    """The request_id already made a job with another spec; the message names the fields that differ."""


class WrongState(ApiError):
    """The job is in a state in which this cannot be done, e.g. cancel of a finished job."""


class NotPrepared(ApiError):
    """The data of the job is not prepared yet."""


class DataRefused(ApiError):
    """The data of a spec cannot be used."""


class LimitReached(ApiError):
    """A limit of the daemon is reached, or its disk is full."""


class AuthError(ApiError):
    """The daemon does not know the caller, or does not allow it this call."""


class CursorTooOld(ApiError):
    """Changes after the cursor are not kept any more: list the jobs, then watch anew without one."""


class Corrupted(ApiError):
    """What came is not what was sent: another checksum, or a file that changed meanwhile."""


class DeadlineExceeded(ApiError):
    """The daemon did not answer in the time the call was given."""


class Unavailable(ApiError):
    """Nobody answers. `tried` maps each address to what happened there."""

    def __init__(self, tried: Mapping[str, str], *, request_id: str = "") -> None:
        super().__init__(
            "the daemon cannot be reached",
            code="UNAVAILABLE",
            request_id=request_id,
            advice="start it with `ftd` (or `systemctl start ftd`), or set FTD_ADDRESS to where it listens",
        )
        self.tried = dict(tried)
        self.why = "tried " + "; ".join(f"{address} ({outcome})" for address, outcome in tried.items())


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a spec: path of the field, what is wrong and what would be accepted, its line in the file."""

    field: str
    description: str
    line: int | None = None


class SpecFileError(FtError):
    """A spec that cannot be sent as it is; `problems` has every one."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = "; ".join(f"{p.field}: {p.description}" if p.field else p.description for p in self.problems)
        super().__init__(f"{source} has {count} problem{'s' if count != 1 else ''}: {lines}")


class ContextError(FtError):
    """The file of contexts cannot be read or written, or what it says cannot be meant."""


class TransferError(FtError):
    """A file of an upload or a download, on this side, cannot be read or written, or has not the right checksum."""


class JobFailed(FtError):
    """The job that was waited for has failed: `failure` says how, `log_tail` is the end of what it printed."""

    def __init__(self, job: Job, log_tail: Sequence[str] = ()) -> None:
        self.job = job
        self.failure: Failure | None = job.failure
        self.log_tail = tuple(log_tail)
        failure = job.failure
        message = failure.message if failure else (job.reason.message if job.reason else "no reason given")
        super().__init__(f"job {job.id} ({job.name}) failed: {message}", advice=failure.advice if failure else "")
        self.why = str(failure.failure_class or "") if failure else ""


class JobCancelled(FtError):
    """The job that was waited for was cancelled."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"job {job.id} ({job.name}) was cancelled", why=job.reason.message if job.reason else "")


class WaitTimeout(FtError):
    """The time given to `wait` is over and the job goes on."""

    def __init__(self, job: str, seconds: float) -> None:
        self.job = job
        super().__init__(
            f"job {job} is not there yet after {round(seconds, 1):g} s",
            advice="the job goes on; wait again with more time",
        )
