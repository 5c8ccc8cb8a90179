"""From a gRPC error to the tree of `ftclient.errors`, in one place.

The daemon sends google.rpc.Status in the trailers: ErrorInfo has a stable reason, BadRequest every violation of a
spec. An answer without one (from gRPC itself, or from a proxy) is told by its code.
"""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from ftclient import __version__, errors
from ftclient.results import Violation

M = TypeVar("M", bound=Message)

_DETAILS = "grpc-status-details-bin"
_BY_REASON: dict[str, type[errors.ApiError]] = {
    "INVALID_SPEC": errors.InvalidSpec,
    "INVALID_REQUEST": errors.InvalidRequest,
    "JOB_NOT_FOUND": errors.NotFound,
    "JOB_AMBIGUOUS": errors.Ambiguous,
    "REQUEST_ID_REUSED": errors.AlreadyExists,
    "JOB_FINISHED": errors.WrongState,
    "WRONG_STATE": errors.WrongState,
    "NOT_PREPARED": errors.NotPrepared,
    "DATA_REFUSED": errors.DataRefused,
    "CURSOR_TOO_OLD": errors.CursorTooOld,
}
_BY_CODE: dict[str, type[errors.ApiError]] = {
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "FAILED_PRECONDITION": errors.WrongState,
    "DATA_LOSS": errors.Corrupted,
    "RESOURCE_EXHAUSTED": errors.LimitReached,
    "UNAUTHENTICATED": errors.AuthError,
    "PERMISSION_DENIED": errors.AuthError,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
}
_ADVICE_BY_REASON = {
    "DATASET_NOT_FOUND": "`ftctl data list` lists the data sets there are",
    "DATASET_EXISTS": "give another name with --name, or `ftctl data delete` the old one",
    "DATASET_NEEDED": "`ftctl get` lists the jobs that have not ended",
    "ARTIFACT_NOT_FOUND": "`ftctl artifacts JOB` lists what the job has",
    "ARTIFACT_NEEDED": "`ftctl delete JOB` removes a job that has ended with all it left",
    "UPLOAD_INCOMPLETE": "the file got shorter while it was sent; send it again when nobody writes to it",
    "CHECKSUM_MISMATCH": "send it again when nobody writes to the file",
    "ARTIFACT_CHANGED": "run it again; `ftctl artifacts JOB` lists what the job has now",
    "CHAT_ENDED": "`ftctl describe JOB` shows why it ended; `ftctl chat` begins another",
    "DEVICE_NOT_FOUND": "`ftctl gpus` lists the devices there are",
    "DEVICES_UNREADABLE": "try again; if it stays so, see what `nvidia-smi` says on the daemon's host",
}
_ADVICE: dict[type[errors.ApiError], str] = {
    errors.NotFound: "`ftctl get jobs` lists the jobs there are",
    errors.AlreadyExists: "give a new request_id to make another job, or the old spec to get the job it made",
    errors.DataRefused: "`ftctl data preview -f FILE --row N` shows a row, or why it cannot be used",
    errors.NotPrepared: "wait until the job has left the state preparing",
    errors.WrongState: "`ftctl describe JOB` shows its state and how it came there",
    errors.CursorTooOld: "list the jobs there are, then watch anew without a cursor",
    errors.LimitReached: "`ftctl doctor` shows the daemon's disk and jobs",
    errors.AuthError: "give your token in FTD_TOKEN or the context, or ask whoever runs the daemon for access",
    errors.DeadlineExceeded: "try again; `ftctl doctor` shows whether the daemon is well",
}
_ADVICE_BY_CODE = {
    "UNIMPLEMENTED": "update the daemon, or do without; `ftctl doctor` shows both versions",
    "INTERNAL": "report it, with what the log says, to whoever runs the daemon",
}


def to_error(error: Any, request_id: str = "", method: str = "") -> errors.ApiError:
    """The error for a failed call of `method`: `error` is a grpc.RpcError that is also a grpc.Call."""
    code: str = error.code().name
    status = _status(error)
    info = _detail(status, error_details_pb2.ErrorInfo)
    reason = info.reason if info else ""
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code) or errors.ApiError
    message = status.message or error.details() or code
    if code == "UNIMPLEMENTED":
        message = f"the daemon does not know {method}: it is older than this client, {__version__}"
    advice = _ADVICE_BY_REASON.get(reason) or _ADVICE.get(cls) or _ADVICE_BY_CODE.get(code, "")
    made = cls(
        message,
        code=code,
        reason=reason,
        request_id=request_id,
        advice=advice,
    )
    if isinstance(made, errors.InvalidSpec):
        found = _detail(status, error_details_pb2.BadRequest)
        made.violations = tuple(Violation(v.field, v.description) for v in found.field_violations) if found else ()
    return made


def _status(error: Any) -> status_pb2.Status:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _detail(status: status_pb2.Status, cls: type[M]) -> M | None:
    for packed in status.details:
        if packed.Is(cls.DESCRIPTOR):
            detail = cls()
            packed.Unpack(detail)
            return detail
    return None
