"""The exit codes, and which error leads to which. Scripts rely on them: never change one."""

from __future__ import annotations

from ftclient import errors

OK = 0
FAILED = 1
USAGE = 2
AUTH = 4
UNREACHABLE = 5
# It conflicts with what is there, or a limit is reached.
REFUSED = 6
# Of commands that wait for a job: how the job ended.
JOB_FAILED = 100
NOT_FINISHED = 101
JOB_NOT_FOUND = 102
JOB_CANCELLED = 103
INTERRUPTED = 130

_CODES: tuple[tuple[type[errors.FtError], int], ...] = (
    (errors.AuthError, AUTH),
    (errors.Unavailable, UNREACHABLE),
    (errors.AlreadyExists, REFUSED),
    (errors.WrongState, REFUSED),
    (errors.DataRefused, REFUSED),
    (errors.LimitReached, REFUSED),
    (errors.JobFailed, JOB_FAILED),
    (errors.JobCancelled, JOB_CANCELLED),
    (errors.WaitTimeout, NOT_FINISHED),
)


def code_of(error: errors.FtError) -> int:
    """The exit code for an error."""
    return next((code for cls, code in _CODES if isinstance(error, cls)), FAILED)
