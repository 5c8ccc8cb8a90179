"""Reading the spec that a request carries."""

from __future__ import annotations

from finetuned.v1 import job_pb2
from ftd import wire
from ftd.errors import InvalidSpec, Violation
from ftd.spec import JobSpec


def read_spec(message: job_pb2.JobSpec, most_bytes: int) -> JobSpec:
    """The spec as a record. Raises InvalidSpec where it is too large or says what no record can."""
    size = message.ByteSize()
    if size > most_bytes:
        raise InvalidSpec([Violation("", f"the spec has {size} bytes; at most {most_bytes} are accepted")])
    return wire.read_spec(message)
