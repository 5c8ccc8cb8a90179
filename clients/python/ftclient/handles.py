"""One job with its calls: what a client does with a job, without saying each time which. Nothing of its own happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Concatenate, Generic, ParamSpec, TypeVar

from ftclient.results import Job

C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")


class Handle(Generic[C_co]):
    """A client and the id, prefix or name of a job. Nobody has been asked whether there is one."""

    def __init__(self, client: C_co, job: str | Job) -> None:
        self.client = client
        self.job = job

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.job.id if isinstance(self.job, Job) else self.job!r})"


def of_job(call: Callable[Concatenate[C_co, str | Job, P], R]) -> Callable[Concatenate[Handle[C_co], P], R]:
    """The client's call, of the handle's job."""

    @wraps(call)
    def bound(handle: Handle[C_co], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return call(handle.client, handle.job, *args, **kwargs)

    me, _job, *rest = signature(call).parameters.values()
    # What help() shows: the arguments without the job.
    bound.__dict__["__signature__"] = signature(call).replace(parameters=[me, *rest])
    return bound
