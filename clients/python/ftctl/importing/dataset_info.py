"""A data set of LLaMA-Factory's dataset_info.json as a source of a spec, by the rules that file is read with there.

The rule that surprises: with `columns` in an entry every column that is not listed is none, and `tags` likewise;
nothing falls back to a usual name. What that leaves out there and would be read here is refused, never read by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftctl.importing.place import Place
from ftctl.importing.preferences import PAIRED
from ftctl.importing.report import Entry
from ftctl.importing.rules import ignore, refuse, write

_TEXTS = (".json", ".jsonl", ".csv", ".txt")
ENDINGS = (*_TEXTS, *(f"{text}{packed}" for text in _TEXTS for packed in (".gz", ".zst")), ".parquet", ".arrow")
_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url")
_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
# What the preparation takes for each speaker where a source names none.
_SPEAKERS = {
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call",),
    "system_tag": ("system", "developer"),
}
# The same speakers by their names in a source.
_NAMED = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
_MEDIA = ("images", "videos", "audios")
_ASKED = {"instruction": "prompt", "input": "query", "system": "system", "history": "history", "tools": "tools"}
_TURNS = {"messages": "messages", "system": "system", "tools": "tools"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}
_LABEL = {"label": "kto_tag"}
# Of each format here: its columns, with the names of the same in dataset_info.json.
_FORMATS: dict[str, dict[str, str]] = {
    "text": {"text": "prompt"},
    "alpaca": {**_ASKED, "output": "response"},
    "sharegpt": _TURNS,
    "messages": _TURNS,
}
# Columns that the preparation reads by itself where a row has them.
_READ_ALONE = {"alpaca": ("input", "system", "history", "tools"), "sharegpt": ("system", "tools")}


@dataclass(frozen=True, slots=True)
class Info:
    """The file, read: its folder and the data sets by name."""

    folder: Path
    sets: Mapping[str, Any]


def load(path: Path, look: Callable[[Path], str | None]) -> Info:
    """Reads a dataset_info.json. Raises ValueError if it is none."""
    try:
        sets = json.loads(look(path) or "")
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(sets, dict):
        raise ValueError(f"{path} is not a mapping of names to data sets")  # noqa: TRY004  a reader's error
    return Info(path.parent, sets)


@dataclass(frozen=True, slots=True)
class DataSet:
    """One entry of the file, seen from a stage."""

    name: str
    given: Mapping[str, Any]
    path: Path
    stage: str

    @property
    def place(self) -> str:
        """The file, the folder, or the address; empty if it is none that can be read."""
        if address := self.given.get("cloud_file_name"):
            return str(address)
        name = self.path.name.lower()
        return str(self.path) if name.endswith(ENDINGS) or "." not in name else ""

    @property
    def is_text(self) -> bool:
        """Whether its rows are plain text, without columns."""
        return ".txt" in self.path.suffixes[-2:]

    @property
    def ranking(self) -> bool:
        """Whether a row holds two answers to one question."""
        return bool(self.given.get("ranking"))

    @property
    def columns(self) -> dict[str, Any]:
        """The columns as LLaMA-Factory resolves them."""
        return _resolved(self.given.get("columns"), _COLUMNS)

    @property
    def tags(self) -> dict[str, Any]:
        """The keys and speakers of a turn, likewise."""
        return _resolved(self.given.get("tags"), _TAGS)

    @property
    def by_turns(self) -> bool:
        """Whether a row is a list of turns."""
        return str(self.given.get("formatting", "alpaca")) != "alpaca"

    @property
    def format(self) -> str:
        """The format here."""
        if self.stage == "pretrain":
            return "text"
        if self.ranking:
            return "preference"
        if self.stage == "kto":
            return "kto"
        if not self.by_turns:
            return "alpaca"
        named = self.given["formatting"] == "openai" or self.tags.get("role_tag") == "role"
        return "messages" if named else "sharegpt"

    @property
    def fields(self) -> dict[str, str]:
        """The columns of the format here, with their names in the file."""
        if self.format == "preference":
            return {**(_TURNS if self.by_turns else _ASKED), **_PAIR}
        if self.format == "kto":
            return {**(_TURNS if self.by_turns else _FORMATS["alpaca"]), **_LABEL}
        return _FORMATS[self.format]

    def key(self, *parts: str) -> str:
        """How the report names a part of the entry."""
        return ".".join(("dataset_info", self.name, *parts))


def _resolved(given: object, usual: Mapping[str, str]) -> dict[str, Any]:
    return dict(given) if isinstance(given, Mapping) else dict(usual)


def source(found: DataSet, place: Place, max_samples: int | None) -> tuple[dict[str, Any] | None, list[Entry]]:
    """The source of a spec for a data set, None if there can be none, and an entry for each key."""
    entries = list(_entries(found, place))
    if not found.place:
        return None, entries
    made: dict[str, Any] = {"path": found.place}
    if not found.is_text:
        made["format"] = found.format
        columns: dict[str, Any] = dict(_renamed(found))
        if _more_than_listed(found, place.columns(found.path)):
            columns["only"] = True
        if columns:
            made["columns"] = columns
        if speakers := _speakers(found):
            made["speakers"] = speakers
    drawn = found.given.get("num_samples")
    most = [int(n) for n in (max_samples, drawn) if isinstance(n, int)]
    if most:
        made["max_samples" if drawn is None else "num_samples"] = min(most)
    return made, entries


def _speakers(found: DataSet) -> dict[str, str]:
    """The names of who speaks, where one is not known by itself."""
    given = {tag: str(found.tags[tag]) for tag in _NAMED if found.by_turns and found.tags.get(tag)}
    if all(value in _SPEAKERS[tag] for tag, value in given.items()):
        return {}
    return {_NAMED[tag]: value for tag, value in given.items()}


def _renamed(found: DataSet) -> dict[str, str]:
    """The columns that the file calls otherwise than the format here."""
    usual = {"messages": "messages" if found.format == "messages" else "conversations"}
    columns = {
        field: str(found.columns[theirs])
        for field, theirs in found.fields.items()
        if found.columns.get(theirs) and found.columns[theirs] != usual.get(field, field)
    }
    if found.by_turns and found.format != "text":
        # The preparation knows role and content, from and value; anything else is named.
        keys = (found.tags.get("role_tag"), found.tags.get("content_tag"))
        if keys not in (("from", "value"), ("role", "content"), (None, None)):
            columns |= {"role": str(keys[0] or "from"), "content": str(keys[1] or "value")}
    return columns


def _entries(found: DataSet, place: Place) -> Iterator[Entry]:
    yield from _of_the_set(found)
    for name, value in found.given.items():
        if name == "columns" and isinstance(value, Mapping):
            yield from (_column(found, column, item) for column, item in value.items())
        elif name == "tags" and isinstance(value, Mapping):
            yield from (_tag(found, tag, item) for tag, item in value.items())
        else:
            yield _part(found, name, value)
    if found.path.name == "identity.json" and "{{name}}" in (place.look(found.path) or ""):
        note = "its rows hold {{name}} and {{author}}, and are trained on like this; replace them in a copy"
        yield write(found.key("rows"), found.path.name, "path", None, note)


def _of_the_set(found: DataSet) -> Iterator[Entry]:
    """What stage and rows have to do with each other."""
    pairs = found.stage in PAIRED
    if pairs != found.ranking and found.stage:
        rows = "has one answer a row" if pairs else "has two answers a row (ranking)"
        yield refuse(found.key(), found.name, f"{rows}, which {found.stage} does not train on", "name another data set")
    if found.ranking and not {"chosen", "rejected"} <= {k for k, v in found.columns.items() if v}:
        yield refuse(found.key("columns"), None, "says nothing of chosen and rejected", "list both")
    if found.format == "kto" and not found.columns.get("kto_tag"):
        yield refuse(found.key("columns"), None, "says nothing of kto_tag, which kto trains on", "list it")
    if not any(found.given.get(name) for name in (*_REMOTE, "cloud_file_name", "file_name")):
        yield refuse(found.key("file_name"), None, "is missing", "give the name of a local file")
    elif not found.given.get("columns", {"messages": 1}).get("messages") and found.by_turns:
        yield refuse(found.key("columns"), None, "says nothing of messages", "list the column with the turns")


def _part(found: DataSet, name: str, value: Any) -> Entry:
    key = found.key(name)
    if name in _REMOTE:
        return refuse(key, value, "is not on this host", "download it, and give its file as file_name")
    if name == "cloud_file_name":
        return write(key, value, "path", None, "the host must allow addresses")
    if name == "file_name":
        if not found.place:
            return refuse(key, value, "is no file that can be read", f"accepted are files in {', '.join(ENDINGS)}")
        return write(key, value, "path", None, str(found.path))
    if name == "num_samples":
        return write(key, value, "num_samples", None, "drawn by the seed, here as there")
    if name in ("formatting", "ranking"):
        if name == "formatting" and value not in ("alpaca", "sharegpt", "openai"):
            return refuse(key, value, "is no formatting", "accepted are alpaca, sharegpt and openai")
        return write(key, value, "format", None, found.format)
    if name == "split" and value != "train" and not found.given.get("file_name"):
        return refuse(key, value, "is a part of a set on a hub", "download it, and give its file as file_name")
    if name in ("split", "subset", "folder"):
        return ignore(key, value, "a local file has one split")
    return refuse(key, value, "is no key of dataset_info.json", "remove it")


def _column(found: DataSet, column: str, value: Any) -> Entry:
    key = found.key("columns", column)
    if not value:
        return ignore(key, value, "empty: as if it were not there")
    if column in _MEDIA:
        return refuse(key, value, "pictures, films and sounds are not trained on", "use rows of text alone")
    if column == "kto_tag" and found.format != "kto":
        return refuse(key, value, "labels of good and bad answers are for the stage kto", "use another data set")
    for field, theirs in found.fields.items():
        if theirs == column:
            return write(key, value, f"columns.{field}", None)
    if found.format == "text" and column == "query":
        return refuse(key, value, "is joined to the prompt there; a text is one column here", "join them in the file")
    return ignore(key, value, f"{found.format} rows are read without it")


def _tag(found: DataSet, tag: str, value: Any) -> Entry:
    key = found.key("tags", tag)
    if not found.by_turns or not value:
        return ignore(key, value, "rows without turns have no tags" if value else "empty")
    if tag in ("role_tag", "content_tag"):
        return write(key, value, f"columns.{tag.removesuffix('_tag')}", None)
    if tag not in _NAMED:
        return refuse(key, value, "is no tag of dataset_info.json", f"accepted are {', '.join(_TAGS)}")
    if not _speakers(found):
        return ignore(key, value, "as here: the speaker is known by this name")
    return write(key, value, f"speakers.{_NAMED[tag]}", None)


def _more_than_listed(found: DataSet, columns: set[str] | None) -> bool:
    """Whether the file has columns that are left out there and would be read here."""
    alone = _READ_ALONE["sharegpt" if found.by_turns else "alpaca"] if found.format != "text" else ()
    listed = {field for field, theirs in found.fields.items() if found.columns.get(theirs)}
    return any(field in (columns or ()) for field in set(alone) - listed)
