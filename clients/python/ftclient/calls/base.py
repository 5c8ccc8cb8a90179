"""What all calls share: the connection, and how a job or a spec is given. No call of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from finetuned.v1 import job_pb2
from ftclient.connection import Connection
from ftclient.enums import JobState
from ftclient.results import Job
from ftclient.transport import Method

Spec = job_pb2.JobSpec | Mapping[str, Any]


class Caller:
    """Calls over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def _read(self, method: Method, request: Any, timeout: float | None) -> Any:
        """A call that changes nothing, or nothing more the second time: repeated while the daemon is away."""
        return await self._connection.call(method, request, timeout=timeout, repeatable=True)

    async def _once(self, method: Method, request: Any, timeout: float | None) -> Any:
        """A call that changes something. Never repeated: the first try may have been heard."""
        return await self._connection.call(method, request, timeout=timeout, repeatable=False)


def reference(job: str | Job) -> str:
    """What the daemon is asked for."""
    return job.id if isinstance(job, Job) else job


def to_spec(spec: Spec) -> job_pb2.JobSpec:
    """A copy of the message, or what the mapping describes; its relative paths start at the current folder."""
    message = job_pb2.JobSpec()
    if isinstance(spec, job_pb2.JobSpec):
        message.CopyFrom(spec)
        return message
    from ftclient.specfile import from_mapping

    return from_mapping(spec)


def state_numbers(states: Iterable[JobState]) -> list[job_pb2.JobState.ValueType]:
    """The contract's numbers of states given as texts."""
    return [job_pb2.JobState.Value(f"JOB_STATE_{state.upper()}") for state in states]
