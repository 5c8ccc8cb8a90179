"""Plain values (what YAML or Python gives) into a message, driven by the message's own descriptor.

Collects every problem instead of stopping at the first: an unknown field with the nearest known one, a value of the
wrong kind with what would be accepted, two members of a oneof. What is well is filled in all the same. Whether a value
makes sense is for the daemon to say; nothing here knows a particular field, only kinds of fields.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from ftclient import units
from ftclient.errors import Problem

# The implementation in C has descriptor classes of its own; only their attributes are a promise.
Descriptor = Any
Field = Any

# C++ types of whole numbers.
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}


def is_path(name: str) -> bool:
    """Whether a text in the field of this name is a path on the daemon's host."""
    return name in ("path", "dataset_info") or name.endswith("_path")


def absolute(path: str, base: Path) -> str:
    """The path from its root on, a relative one from `base`; a URL stays as it is."""
    return path if "://" in path else str(base / Path(path).expanduser())


class Filler:
    """Fills messages from mappings.

    `base` is the folder that relative paths start from, `known` the paths of all fields (see `paths`) for hints. Times
    such as "in 2h" are counted from when it was made.
    """

    def __init__(self, base: Path, known: Sequence[str]) -> None:
        self._base = base
        self._known = known
        self._now = datetime.now(UTC)
        self.problems: list[Problem] = []

    def problem(self, path: str, description: str, line: int | None = None) -> None:
        """Notes one problem."""
        self.problems.append(Problem(path, description, line))

    def fill(
        self, message: Message, values: Mapping[str, Any], path: str = "", keys: Iterable[str] | None = None
    ) -> None:
        """Sets the message's fields from a mapping of their names, or from those of its `keys`."""
        for key in values if keys is None else keys:
            name, line = str(key), line_of(values, key)
            field = message.DESCRIPTOR.fields_by_name.get(name)
            if field is None:
                self.problem(_join(path, name), self._unknown(name, path), line)
            else:
                self._set(message, field, values[key], _join(path, name), line)
        self._check_oneofs(message.DESCRIPTOR, values, path)

    def _unknown(self, name: str, path: str) -> str:
        """What to say about a field that does not exist: where one of this name, or nearly, is."""
        inside = re.sub(r"\[\d+\]", "[0]", path)
        here = [leaf for leaf in self._known if leaf.rpartition(".")[0] == inside]
        names = [leaf.rpartition(".")[2] for leaf in here]
        everywhere = {leaf.rpartition(".")[2]: leaf for leaf in reversed(self._known)}
        if name in everywhere:
            return f"no such field here; did you mean {everywhere[name]}?"
        if near := difflib.get_close_matches(name, names, n=1, cutoff=0.7):
            return f"no such field; did you mean {_join(path, near[0])}?"
        if near := difflib.get_close_matches(name, everywhere, n=1, cutoff=0.75):
            return f"no such field; did you mean {everywhere[near[0]]}?"
        return f"no such field; accepted here: {', '.join(names) or 'nothing'}"

    def _check_oneofs(self, descriptor: Descriptor, values: Mapping[str, Any], path: str) -> None:
        for oneof in descriptor.oneofs:
            members = [field.name for field in oneof.fields]
            given = [name for name in members if name in values]
            if len(given) > 1:
                text = f"{_listed(given, 'and')} are given and exclude each other; keep one of {_listed(members, 'or')}"
                self.problem(_join(path, oneof.name), text, line_of(values, given[1]))

    def _set(self, message: Message, field: Field, value: Any, path: str, line: int | None) -> None:
        if is_map(field):
            self._set_map(message, field, value, path, line)
        elif field.is_repeated:
            self._set_list(message, field, value, path, line)
        elif field.message_type:
            self._set_message(message, field, value, path, line)
        elif value is not None and (converted := self._scalar(field, value, path, line)) is not None:
            try:
                setattr(message, field.name, converted)
            except ValueError:
                self.problem(path, f"{value} is out of range for this field", line)

    def _set_message(self, message: Message, field: Field, value: Any, path: str, line: int | None) -> None:
        if is_time(field):
            self._set_time(getattr(message, field.name), value, path, line)
        elif isinstance(value, Mapping):
            getattr(message, field.name).SetInParent()
            self.fill(getattr(message, field.name), value, path)
        elif value is not None:
            names = _listed(list(field.message_type.fields_by_name), "or")
            accepted = f"a mapping with {names}" if names else "{}"
            self.problem(path, f"expected {accepted}, got {_shown(value)}", line)
        elif field.containing_oneof is not None:
            # `full:` with nothing after it chooses the method all the same.
            getattr(message, field.name).SetInParent()

    def _set_time(self, target: Timestamp, value: Any, path: str, line: int | None) -> None:
        given = value if isinstance(value, date | None) else self._text(value, path, line)
        if given is None:
            return
        try:
            target.FromDatetime(units.time(given, self._now))
        except ValueError as error:
            self.problem(path, str(error), line)

    def _set_list(self, message: Message, field: Field, value: Any, path: str, line: int | None) -> None:
        target = getattr(message, field.name)
        if isinstance(value, str):
            value = [value]
        if value is None:
            return
        if not isinstance(value, Sequence) or isinstance(value, str):
            self.problem(path, f"expected a list (each item begins with `- `), got {_shown(value)}", line)
            return
        for index, item in enumerate(value):
            where, at = f"{path}[{index}]", line_of(value, index) or line
            if not field.message_type:
                converted = self._scalar(field, item, where, at)
                target.extend([] if converted is None else [converted])
            elif isinstance(item, Mapping | str):
                # A text alone is the first field, which says what the item is: `train: rows.jsonl`, `after: [other]`.
                first = field.message_type.fields[0].name
                self.fill(target.add(), {first: item} if isinstance(item, str) else item, where)
            else:
                names = _listed(list(field.message_type.fields_by_name), "or")
                self.problem(where, f"expected a mapping with {names}, got {_shown(item)}", at)

    def _set_map(self, message: Message, field: Field, value: Any, path: str, line: int | None) -> None:
        if value is None:
            return
        if not isinstance(value, Mapping):
            self.problem(path, f"expected a mapping of names to values, got {_shown(value)}", line)
            return
        of_value = field.message_type.fields_by_name["value"]
        for key, item in value.items():
            converted = self._scalar(of_value, item, f"{path}.{key}", line_of(value, key) or line)
            if converted is not None:
                getattr(message, field.name)[str(key)] = converted

    def _scalar(self, field: Field, value: Any, path: str, line: int | None) -> Any:
        """The value as the field takes it, or None after noting a problem (or for the enum value `auto`)."""
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self._enum(field, value, path, line)
        if kind == FieldDescriptor.CPPTYPE_STRING:
            text = self._text(value, path, line)
            return absolute(text, self._base) if text and is_path(field.name) else text
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            if isinstance(value, bool):
                return value
            self.problem(path, f"expected true or false, got {_shown(value)}", line)
            return None
        return self._number(field, value, path, line)

    def _number(self, field: Field, value: Any, path: str, line: int | None) -> int | float | None:
        whole = field.cpp_type in INTEGERS
        if isinstance(value, str) and field.name.endswith("_bytes"):
            try:
                return units.size(value)
            except ValueError as error:
                self.problem(path, str(error), line)
                return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = "; leave the quotes out" if isinstance(value, str) and _is_number(value) else ""
            self.problem(path, f"expected a {'whole ' if whole else ''}number, got {_shown(value)}{hint}", line)
            return None
        if not whole:
            return float(value)
        if value != value or value in (float("inf"), float("-inf")) or int(value) != value:
            self.problem(path, f"expected a whole number, got {value}", line)
            return None
        return int(value)

    def _text(self, value: Any, path: str, line: int | None) -> str | None:
        if isinstance(value, str):
            return str(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        self.problem(path, f"expected text, got {_shown(value)}; put it in quotes", line)
        return None

    def _enum(self, field: Field, value: Any, path: str, line: int | None) -> int | None:
        choices = short_names(field.enum_type)
        name = value.lower() if isinstance(value, str) else None
        if name == "auto":
            return None
        if name in choices:
            return choices[name]
        near = difflib.get_close_matches(name or "", choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.problem(path, f"expected {_listed([*choices, 'auto'], 'or')}, got {_shown(value)}{hint}", line)
        return None


def plain(message: Message) -> dict[str, Any]:
    """The fields that are set, as `Filler.fill` takes them and as people write them: bf16, 42, {rank: 16}."""
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: Field, value: Any) -> Any:
    if is_map(field):
        # A message's maps have no order of their own: the same spec is to be the same text.
        return dict(sorted(value.items()))
    if field.is_repeated:
        return [_plain_value(field, item) for item in value]
    return _plain_value(field, value)


def _plain_value(field: Field, value: Any) -> Any:
    if is_time(field):
        return str(value.ToJsonString())
    if field.message_type:
        return plain(value)
    if field.enum_type:
        names = {number: name for name, number in short_names(field.enum_type).items()}
        return names.get(value, value)
    return value


def short_names(enum: Descriptor) -> dict[str, int]:
    """The enum's values as users write them: DTYPE_BF16 is bf16. Without UNSPECIFIED, which users call auto."""
    first = enum.values_by_number[0].name
    prefix = first.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def paths(descriptor: Descriptor, path: str = "") -> Iterator[str]:
    """Paths of all fields below a message, lists entered at their first item."""
    for field in descriptor.fields:
        where = _join(path, field.name)
        yield where
        if field.message_type and not is_map(field) and not is_time(field):
            yield from paths(field.message_type, f"{where}[0]" if field.is_repeated else where)


def line_of(container: Any, key: Any) -> int | None:
    """The line, from 1, of an entry that ruamel.yaml read; None for one that came from elsewhere."""
    places = getattr(getattr(container, "lc", None), "data", None) or {}
    return places[key][0] + 1 if key in places else None


def is_map(field: Field) -> bool:
    """Whether it maps names to values."""
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def is_time(field: Field) -> bool:
    """Whether it holds a moment."""
    return bool(field.message_type and field.message_type.full_name == Timestamp.DESCRIPTOR.full_name)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(names: Sequence[str], last: str) -> str:
    return f" {last} ".join(part for part in (", ".join(names[:-1]), names[-1]) if part) if names else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value as the user wrote it, about."""
    match value:
        case Mapping():
            return "a mapping"
        case str():
            return f"the text {value[:60]!r}"
        case Sequence():
            return "a list"
        case bool():
            return str(value).lower()
        case None:
            return "nothing"
        case _:
            return str(value)
