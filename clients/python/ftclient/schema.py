"""The fields of a spec file, told by the contract itself: what each means, takes and defaults to; also as JSON Schema.

Texts are the comments of the proto, kept beside the generated code. Nothing here knows a particular field, and a JSON
Schema checks only what one can: what excludes what, and whether a value makes sense, is for the daemon to say.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from finetuned.v1.job_pb2 import JobSpec
from finetuned.v1.training_pb2 import TrainingSpec
from ftclient.fields import INTEGERS, is_map, is_time, short_names

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A text may be written without quotes where it looks like a number: `revision: 1`.
_TEXT: Schema = {"type": ["string", "integer"]}


@dataclass(frozen=True, slots=True)
class SpecField:
    """One field: its path in a spec file, what it takes in words, what it means, and what is inside it.

    `choices` are the values of an enum with their meanings; `fields` the paths inside, those of a list's first item.
    """

    path: str
    takes: str
    meaning: str
    choices: tuple[tuple[str, str], ...] = ()
    fields: tuple[str, ...] = ()


def fields() -> Iterator[SpecField]:
    """All fields of a spec file in the contract's order, each before what is inside it."""
    yield from _fields().values()


def find(path: str) -> SpecField | None:
    """The field at a path such as "lora.rank", "training.lora.rank" or "data.train[0].path"; None if there is none."""
    return _fields().get(_plain(path))


def near(path: str) -> tuple[str, ...]:
    """Paths of the fields that may be meant: of the same name elsewhere, or of nearly the same; at most three."""
    name = _plain(path).rpartition(".")[2]
    names = {known.rpartition(".")[2] for known in _fields()}
    meant = name if name in names else next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.7)), None)
    return tuple(known for known in _fields() if known.rpartition(".")[2] == meant)[:3]


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a spec file, for editors and other checkers of YAML and JSON."""
    definitions: dict[str, Schema] = {}
    training = _define(TrainingSpec.DESCRIPTOR, definitions)
    job = {field.name: _schema(field, definitions) for field in JobSpec.DESCRIPTOR.fields if field.name != "training"}
    properties = {**job, "training": training, **definitions["TrainingSpec"]["properties"]}
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"$schema": _DIALECT, "title": "A fine-tuning job", **shape, "$defs": definitions}


@cache
def _comments() -> dict[str, str]:
    text = resources.files("finetuned.v1").joinpath("comments.json").read_text(encoding="utf-8")
    found: dict[str, str] = json.loads(text)
    return found


@cache
def _fields() -> dict[str, SpecField]:
    of_job = (field for field in JobSpec.DESCRIPTOR.fields if field.name != "training")
    return {
        found.path: found for field in (*of_job, *TrainingSpec.DESCRIPTOR.fields) for found in _walk(field, field.name)
    }


def _walk(field: Any, path: str) -> Iterator[SpecField]:
    inside = [] if not field.message_type or is_map(field) or is_time(field) else list(field.message_type.fields)
    below = f"{path}[0]." if field.is_repeated else f"{path}."
    choices: tuple[tuple[str, str], ...] = ()
    if field.enum_type:
        values = {value.number: _comment(value, field.enum_type.name) for value in field.enum_type.values}
        choices = tuple((name, values[number]) for name, number in short_names(field.enum_type).items())
    yield SpecField(path, _takes(field), _meaning(field), choices, tuple(f"{below}{each.name}" for each in inside))
    for each in inside:
        yield from _walk(each, f"{below}{each.name}")


def _plain(path: str) -> str:
    """The path as `fields` has it: without `training`, and with 0 as the place in each list, which may be left out."""
    whole = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path.strip().removeprefix("training."))
    bare = re.sub(r"\[\d+\]", "", whole)
    return next((known for known in _paths_without_places().get(bare, ())), whole)


@cache
def _paths_without_places() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in _fields():
        found.setdefault(path.replace("[0]", ""), []).append(path)
    return found


def _meaning(field: Any) -> str:
    """The field's comment, or that of the message it holds."""
    of_type = _comments().get(field.message_type.name, "") if field.message_type and not is_map(field) else ""
    return _comment(field, field.containing_type.name) or of_type


def _comment(named: Any, parent: str) -> str:
    return _comments().get(f"{parent}.{named.name}", "")


def _takes(field: Any) -> str:
    if is_map(field):
        return "mapping of names to values"
    one = _takes_one(field)
    return f"list of {one}" if field.is_repeated else one


def _takes_one(field: Any) -> str:
    if is_time(field):
        return "time"
    if field.message_type:
        return "mapping"
    if field.enum_type:
        return "choice"
    if field.cpp_type in INTEGERS:
        return "size" if field.name.endswith("_bytes") else "whole number"
    names = {FieldDescriptor.CPPTYPE_STRING: "text", FieldDescriptor.CPPTYPE_BOOL: "true or false"}
    return names.get(field.cpp_type, "number")


def _define(message: Any, definitions: dict[str, Schema]) -> Schema:
    """A reference to the message's schema, which is put among the definitions once."""
    if message.name not in definitions:
        definitions[message.name] = {}
        properties = {field.name: _schema(field, definitions) for field in message.fields}
        # `full:` with nothing behind it chooses the method all the same.
        shape = {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
        definitions[message.name] = shape
    return {"$ref": f"#/$defs/{message.name}"}


def _schema(field: Any, definitions: dict[str, Schema]) -> Schema:
    if is_map(field):
        value = field.message_type.fields_by_name["value"]
        shape: Schema = {"type": "object", "additionalProperties": _one(value, definitions)}
    elif not field.is_repeated:
        shape = _one(field, definitions)
    else:
        item = _one(field, definitions)
        # A text alone is the item's first field, and an item alone a list of one.
        accepted = {"anyOf": [item, _TEXT]} if field.message_type else item
        shape = {"anyOf": [{"type": "array", "items": accepted}, _TEXT]}
    meaning = _meaning(field)
    return {**shape, "description": meaning} if meaning else shape


def _one(field: Any, definitions: dict[str, Schema]) -> Schema:
    if is_time(field):
        return {"type": "string"}
    if field.message_type:
        return _define(field.message_type, definitions)
    if field.enum_type:
        return {"enum": [*short_names(field.enum_type), "auto"]}
    if field.cpp_type in INTEGERS:
        return {"type": ["integer", "string"] if field.name.endswith("_bytes") else "integer"}
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return dict(_TEXT)
    return {"type": "boolean" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "number"}
