"""The domain's records and the public messages mirror each other: neither may have a field the other lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from finetuned.v1 import data_report_pb2, event_pb2, job_pb2, job_service_pb2, weights_pb2
from finetuned.v1.training_pb2 import TrainingSpec as TrainingMessage
from ftd import errors, records, spec, wire
from ftd.job import Job
from ftd.stages import Role, Sft
from ftd.weights import Weights

ROOTS: list[tuple[type, Any]] = [
    (spec.JobSpec, job_pb2.JobSpec),
    (Weights, weights_pb2.Weights),
    (records.Reason, job_pb2.Reason),
    (records.Failure, event_pb2.Failure),
    (records.Transition, job_pb2.Transition),
    (records.Attempt, job_pb2.Attempt),
    (records.Progress, job_pb2.Progress),
    (records.MemoryEstimate, job_pb2.MemoryEstimate),
    (records.DataReport, data_report_pb2.DataReport),
    (errors.Violation, job_service_pb2.Violation),
]


def items(hint: Any) -> tuple[list[type], bool]:
    """The types of a hint without None, and whether it may be None."""
    if get_origin(hint) is tuple:
        return [get_args(hint)[0]], False
    members = get_args(hint) if get_origin(hint) is not Mapping and get_args(hint) else (hint,)
    return [m for m in members if m is not NoneType], NoneType in members


def problems(cls: type, descriptor: Any) -> list[str]:
    """What a record and a message do not have in common, down through all nested ones."""
    hints = get_type_hints(cls)
    oneofs = {o.name: o for o in descriptor.oneofs if not o.name.startswith("_")}
    in_oneofs = {f.name for o in oneofs.values() for f in o.fields}
    names = {f.name for f in descriptor.fields if f.name not in in_oneofs} | set(oneofs)
    found = [f"{cls.__name__}: only one side has {n}" for n in sorted(names ^ set(hints))]
    for name in names & set(hints):
        where = f"{cls.__name__}.{name}"
        types, optional = items(hints[name])
        if name in oneofs:
            by_name = {f.message_type.name: f.message_type for f in oneofs[name].fields}
            if not optional or {t.__name__ for t in types} != set(by_name):
                found.append(f"{where}: the oneof's members differ")
            for member in types:
                found += problems(member, by_name[member.__name__]) if member.__name__ in by_name else []
            continue
        found += field_problems(where, hints[name], types, optional, descriptor.fields_by_name[name])
    return found


def field_problems(where: str, hint: Any, types: list[type], optional: bool, field: Any) -> list[str]:
    [kind] = types
    is_map = bool(field.message_type and field.message_type.GetOptions().map_entry)
    if is_map:
        return [] if get_origin(hint) is Mapping else [f"{where}: a map"]
    if field.is_repeated != (get_origin(hint) is tuple):
        return [f"{where}: repeated on one side only"]
    if field.message_type and field.message_type.full_name == Timestamp.DESCRIPTOR.full_name:
        return [] if kind is float else [f"{where}: a time"]
    if field.message_type:
        return problems(kind, field.message_type) if is_dataclass(kind) else [f"{where}: a message"]
    if field.enum_type:
        return enum_problems(where, kind, field.enum_type)
    scalar = {field.TYPE_STRING: str, field.TYPE_BOOL: bool, field.TYPE_DOUBLE: float}.get(field.type, int)
    found = [] if kind is scalar else [f"{where}: {kind} for {scalar}"]
    if not field.is_repeated and field.has_presence != optional:
        found.append(f"{where}: unset is possible on one side only")
    return found


def enum_problems(where: str, kind: Any, enum: Any) -> list[str]:
    if not issubclass(kind, StrEnum):
        return [f"{where}: an enum"]
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    theirs = [v.name.removeprefix(prefix).lower() for v in enum.values if v.number]
    return [] if theirs == [str(v) for v in kind] else [f"{where}: the names of the enum {enum.name} differ"]


@pytest.mark.parametrize(("cls", "message_cls"), ROOTS, ids=lambda c: c.__name__)
def test_records_and_messages_have_the_same_fields(cls: type, message_cls: Any) -> None:
    assert problems(cls, message_cls.DESCRIPTOR) == []


def test_the_comparison_bites() -> None:
    assert problems(records.Reason, event_pb2.Failure.DESCRIPTOR) != []
    assert problems(records.Attempt, job_pb2.Progress.DESCRIPTOR) != []


def test_every_field_of_a_public_job_is_filled() -> None:
    ours = {f.name for f in fields(Job)}
    public = {f.name for f in job_pb2.Job.DESCRIPTOR.fields}
    assert ours - public == wire.PRIVATE_FIELDS
    assert public - ours == {"progress", "start_time", "run_directory", "trackers"}
    assert public >= wire.LONG_FIELDS


TEXT = st.text(max_size=8)
SCALARS: dict[type, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(0, 2**31 - 1),
    float: st.floats(allow_nan=False),
}


# Of the fields that may be left out, so many are drawn at once: all of a spec are more than hypothesis draws.
MOST_OPTIONAL = 3


@cache
def record(cls: type, descriptor: Any) -> st.SearchStrategy[Any]:
    """Records of a class, their fields drawn from what each type allows; some of those that have a default."""
    hints = get_type_hints(cls)
    usual = [f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING]
    needed = {name: value(hint, name, descriptor) for name, hint in hints.items() if name not in usual}
    if not usual:
        return st.builds(cls, **needed)

    def some(names: list[str]) -> st.SearchStrategy[Any]:
        return st.builds(cls, **needed, **{name: value(hints[name], name, descriptor) for name in names})

    return st.lists(st.sampled_from(usual), unique=True, max_size=MOST_OPTIONAL).flatmap(some)


def value(hint: Any, name: str, descriptor: Any) -> st.SearchStrategy[Any]:
    field = descriptor.fields_by_name.get(name)
    if get_origin(hint) is Mapping:
        return st.dictionaries(TEXT, SCALARS[get_args(hint)[1]], max_size=3)
    types, optional = items(hint)
    if field is None:
        members = {f.message_type.name: f.message_type for f in descriptor.oneofs_by_name[name].fields}
        drawn = st.one_of(*(record(t, members[t.__name__]) for t in types))
    elif field.message_type and field.message_type.name == "Timestamp":
        drawn = st.floats(1e9, 4e9)
    elif is_dataclass(types[0]):
        drawn = record(types[0], field.message_type)
    elif issubclass(types[0], StrEnum):
        drawn = st.sampled_from(list(types[0]))
    else:
        drawn = SCALARS[types[0]]
    if get_origin(hint) is tuple:
        return st.lists(drawn, max_size=2).map(tuple)
    return st.none() | drawn if optional else drawn


def test_several_names_of_an_enum_come_back() -> None:
    # Too deep in a spec to be drawn often.
    output = spec.Output(gguf=(spec.GgufType.Q8_0, spec.GgufType.BF16))
    training = spec.TrainingSpec(output=output, stage=Sft(roles=(Role.USER, Role.ASSISTANT)))
    assert wire.decode(spec.TrainingSpec, TrainingMessage, wire.encode(training, TrainingMessage)) == training


@pytest.mark.parametrize(("cls", "message_cls"), ROOTS, ids=lambda c: c.__name__)
@settings(derandomize=True, deadline=None, max_examples=100)
@given(data=st.data())
def test_a_record_comes_back_as_it_went(cls: Any, message_cls: Any, data: st.DataObject) -> None:
    original = data.draw(record(cls, message_cls.DESCRIPTOR))
    assert wire.decode(cls, message_cls, wire.encode(original, message_cls)) == original
