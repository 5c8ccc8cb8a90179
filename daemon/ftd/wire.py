"""Between our dataclasses and the protobuf messages that mirror them: one generic conversion, by field name.

A message field and a dataclass field of one name hold the same thing: a oneof is a union of dataclasses named as its
messages, an enum a StrEnum without the prefix, a Timestamp seconds since the epoch, a repeated field a tuple, an unset
`optional` None. Nothing here knows what a field means, fills in a default or checks a value; a test holds the two
sides together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from finetuned.v1 import job_pb2
from ftd.errors import InvalidSpec, Violation
from ftd.job import Job
from ftd.records import JobState, Progress
from ftd.spec import JobSpec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)
M = TypeVar("M", bound=Message)
# The implementation in C has descriptor classes of its own; only their attributes are a promise.
Descriptor = Any

# What the daemon keeps of a job for itself.
PRIVATE_FIELDS = frozenset(
    {"request_id", "max_retries", "queue_time", "stop_goal", "save_on_stop", "prepared_directory"}
)
# What ListJobs leaves out of a job.
LONG_FIELDS = frozenset({"resolved", "transitions", "attempts", "annotations"})


def to_proto(record: DataclassInstance, message_cls: type[M], left_out: Collection[str] = ()) -> M:
    """The record as a new message of a class with the same fields, those in `left_out` excepted."""
    message = message_cls()
    _fill(message, record, left_out)
    return message


def from_proto(cls: type[R], message: Message, **given: Any) -> R:
    """The message as a record; `given` are fields that the message does not have.

    An enum number without a name here reads as unset; see `read_spec`.
    """
    read = {name: _read(message, name, slot) for name, slot in _slots(cls).items() if name not in given}
    return cls(**read, **given)


def encode(record: DataclassInstance, message_cls: type[M]) -> bytes:
    """The record's bytes; equal records give equal bytes."""
    return to_proto(record, message_cls).SerializeToString(deterministic=True)


def decode(cls: type[R], message_cls: type[M], data: bytes) -> R:
    """Reads what `encode` wrote. Raises google.protobuf.message.DecodeError if it is something else."""
    return from_proto(cls, message_cls.FromString(data))


def read_spec(message: job_pb2.JobSpec) -> JobSpec:
    """The spec a client sent. Raises InvalidSpec if it says something that this daemon is too old to understand."""
    strangers = list(_strangers(message, ""))
    if strangers:
        raise InvalidSpec(strangers)
    return from_proto(JobSpec, message)


def canonical(spec: JobSpec) -> bytes:
    """Bytes that are equal for equal specs."""
    return encode(spec, job_pb2.JobSpec)


def differences(a: JobSpec, b: JobSpec) -> list[str]:
    """Paths of the fields in which two specs differ, in the order of the contract; empty if they are equal."""
    return list(_differences(to_proto(a, job_pb2.JobSpec), to_proto(b, job_pb2.JobSpec), ""))


def job_to_proto(job: Job, progress: Progress, run_directory: str, *, full: bool) -> job_pb2.Job:
    """The public view of a job; without `full` the fields in LONG_FIELDS are left out.

    Dropped rows are left out of the data report, and the output path until there is an output.
    """
    message = job_pb2.Job(run_directory=run_directory)
    shown = replace(
        job,
        data=replace(job.data, dropped=()) if job.data else None,
        output_path=job.output_path if job.state is JobState.SUCCEEDED else "",
    )
    _fill(message, shown, left_out=PRIVATE_FIELDS if full else PRIVATE_FIELDS | LONG_FIELDS)
    message.progress.CopyFrom(to_proto(progress, job_pb2.Progress))
    if job.attempts:
        _set_time(message.start_time, job.attempts[0].start_time)
    return message


@dataclass(frozen=True, slots=True)
class _Slot:
    """A dataclass field, seen from here: its type, or the types of its oneof or its items; may it be None."""

    types: tuple[type, ...]
    optional: bool


@cache
def _slots(cls: type[DataclassInstance]) -> Mapping[str, _Slot]:
    hints = get_type_hints(cls)
    return {field.name: _slot(hints[field.name]) for field in fields(cls)}


def _slot(hint: Any) -> _Slot:
    if get_origin(hint) is tuple:
        return _Slot((get_args(hint)[0],), optional=False)
    members = get_args(hint)
    if NoneType in members:
        return _Slot(tuple(m for m in members if m is not NoneType), optional=True)
    return _Slot((hint,), optional=False)


def _fill(message: Message, record: DataclassInstance, left_out: Collection[str] = ()) -> None:
    for name, slot in _slots(type(record)).items():
        value = getattr(record, name)
        if value is not None and name not in left_out:
            _write(message, name, value, present=slot.optional)


def _write(message: Message, name: str, value: Any, *, present: bool) -> None:
    """Sets one field. `present`: an empty record is not the same as none, so its message is there even if empty."""
    field = _member(message, name, type(value))
    target = getattr(message, field.name)
    if _is_map(field):
        target.update(value)
    elif field.is_repeated and field.message_type:
        for item in value:
            _fill(target.add(), item)
    elif field.is_repeated:
        target.extend(_number(field.enum_type, item) if field.enum_type else item for item in value)
    elif isinstance(target, Timestamp):
        _set_time(target, value)
    elif field.message_type:
        if present:
            target.SetInParent()
        _fill(target, value)
    elif field.enum_type:
        setattr(message, field.name, _number(field.enum_type, value))
    else:
        setattr(message, field.name, value)


def _member(message: Message, name: str, cls: type) -> Descriptor:
    """The field of this name; for the name of a oneof, its member with the class's name."""
    oneof: Descriptor = message.DESCRIPTOR.oneofs_by_name.get(name)
    if oneof is None:
        return message.DESCRIPTOR.fields_by_name[name]
    return next(f for f in oneof.fields if f.message_type.name == cls.__name__)


def _read(message: Message, name: str, slot: _Slot) -> Any:
    if name in message.DESCRIPTOR.oneofs_by_name:
        chosen = message.WhichOneof(name)
        if chosen is None:
            return None
        member = getattr(message, chosen)
        return from_proto(next(t for t in slot.types if t.__name__ == member.DESCRIPTOR.name), member)
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if _is_map(field):
        return dict(value)
    if field.is_repeated:
        return tuple(_read_value(field, item, slot) for item in value)
    if slot.optional and field.has_presence and not message.HasField(name):
        return None
    return _read_value(field, value, slot)


def _read_value(field: Descriptor, value: Any, slot: _Slot) -> Any:
    kind: Any = slot.types[0]
    if isinstance(value, Timestamp):
        return value.seconds + value.nanos / 1e9
    if field.message_type:
        return from_proto(kind, value)
    if field.enum_type:
        known = field.enum_type.values_by_number.get(value)
        if slot.optional and (known is None or value == 0):
            return None
        return kind(known.name.removeprefix(_prefix(field.enum_type)).lower())
    return value


def _set_time(target: Timestamp, seconds: float) -> None:
    whole, fraction = divmod(seconds, 1)
    target.FromNanoseconds(int(whole) * 10**9 + round(fraction * 1e9))


def _number(enum: Descriptor, name: str) -> int:
    return int(enum.values_by_name[_prefix(enum) + name.upper()].number)


def _prefix(enum: Descriptor) -> str:
    """What all names of an enum begin with: JOB_STATE_ from JOB_STATE_UNSPECIFIED."""
    return str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")


def _is_map(field: Descriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _strangers(message: Message, path: str) -> Iterator[Violation]:
    """Fields and enum numbers that a newer client may know and we do not: they would be lost without a word."""
    advice = "this daemon is older than the client and does not know it; leave it out or update the daemon"
    unknown_fields: Any = UnknownFieldSet(message)
    for unknown in unknown_fields:
        yield Violation(
            path.removesuffix(".") or "spec", f"has a field with the number {unknown.field_number}; {advice}"
        )
    for field, value in message.ListFields():
        if _is_map(field):
            continue
        for place, item in _items(field, value, path + field.name):
            if field.message_type:
                yield from _strangers(item, place + ".")
            elif field.enum_type and item not in field.enum_type.values_by_number:
                yield Violation(place, f"has the value number {item}; {advice}")


def _items(field: Descriptor, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not field.is_repeated:
        yield path, value
        return
    for index, item in enumerate(value):
        yield f"{path}[{index}]", item


def _differences(a: Message, b: Message, path: str) -> Iterator[str]:
    for field in a.DESCRIPTOR.fields:
        place = path + field.name
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.is_repeated or not field.message_type:
            if left != right or (field.has_presence and a.HasField(field.name) != b.HasField(field.name)):
                yield place
            continue
        below = list(_differences(left, right, place + "."))
        if not below and a.HasField(field.name) != b.HasField(field.name):
            below = [place]
        yield from below
