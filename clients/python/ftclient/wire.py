"""Reads messages into the records of `ftclient.results` and `ftclient.events`, by field name.

A Timestamp becomes a datetime, an enum a StrEnum, a repeated field a tuple, a field that is not set None. Which field
is which comes from the record's type hints, worked out once a class. Nothing here knows what a field means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from finetuned.v1 import event_pb2, job_pb2, training_pb2
from ftclient import events, results

R = TypeVar("R", bound=results.Record)
Reader = Callable[[Any], Any]

# Types whose names the records' modules import for the type checker only.
_NAMES = {"JobSpec": job_pb2.JobSpec, "TrainingSpec": training_pb2.TrainingSpec}
_KINDS_BY_MESSAGE = {kind.__name__: kind for kind in get_args(events.Kind)}


def read(cls: type[R], message: Message, **given: Any) -> R:
    """The message as a record; `given` are the fields that do not stand in the message."""
    record: type = cls
    values = {name: reader(message) for name, reader in _readers(record, frozenset(given))}
    return cls(**values, **given, proto=message)


def read_event(message: event_pb2.TrainingEvent, seq: int) -> events.Event | None:
    """The event with its number, or None if it is of a kind this client does not know."""
    name = message.WhichOneof("kind")
    if name is None:
        return None
    kind = getattr(message, name)
    return read(events.Event, message, seq=seq, kind=read(_KINDS_BY_MESSAGE[kind.DESCRIPTOR.name], kind))


@cache
def _readers(cls: type, given: frozenset[str]) -> tuple[tuple[str, Reader], ...]:
    hints = get_type_hints(cls, localns=_NAMES)
    names = [field.name for field in fields(cls) if field.name not in given | {"proto"}]
    return tuple((name, _field_reader(name, hints[name])) for name in names)


def _field_reader(name: str, hint: Any) -> Reader:
    if get_origin(hint) is tuple:
        item = _value_reader(get_args(hint)[0])
        return lambda message: tuple(item(value) for value in getattr(message, name))
    members = [member for member in get_args(hint) if member is not NoneType]
    if get_origin(hint) is not None and issubclass(get_origin(hint), Mapping):
        # A map's own order is another one in each process.
        return lambda message: dict(sorted(getattr(message, name).items()))
    optional = NoneType in get_args(hint)
    value = _value_reader(members[0] if optional else hint)
    if not optional:
        return lambda message: value(getattr(message, name))
    if isinstance(members[0], type) and issubclass(members[0], StrEnum):
        return lambda message: value(getattr(message, name)) if getattr(message, name) else None
    return lambda message: value(getattr(message, name)) if message.HasField(name) else None


def _value_reader(kind: Any) -> Reader:
    if kind is datetime:
        return _time
    if issubclass(kind, results.Record):
        return lambda message: read(kind, message)
    if issubclass(kind, StrEnum):
        return _enum_reader(kind)
    return lambda value: value


def _time(value: Timestamp) -> datetime:
    return value.ToDatetime(tzinfo=UTC)


def _enum_reader(kind: type[StrEnum]) -> Reader:
    # Members stand in the order of their numbers, UNKNOWN where the message has UNSPECIFIED; a test holds them to it.
    members = list(kind)
    return lambda number: members[number] if 0 <= number < len(members) else members[0]
