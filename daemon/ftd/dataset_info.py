"""A data set of LLaMA-Factory's dataset_info.json as a source, by the rules that file is read with there. Pure.

The rule that surprises: with `columns` in an entry every column that is not listed is none, and so with `tags`. What
the preparation cannot read in the same way is refused in words, never read by mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ftd.datasets import Columns, DataSource, Format, Speakers

_HUBS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url")
_MEDIA = ("images", "videos", "audios")
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
# Our columns and speakers, with the names of the same in dataset_info.json.
_ASKED = {"instruction": "prompt", "input": "query", "system": "system", "history": "history", "tools": "tools"}
_TURNS = {"messages": "messages", "system": "system", "tools": "tools"}
_ANSWERS = {
    Format.ALPACA: {"output": "response"},
    Format.KTO: {"output": "response", "label": "kto_tag"},
    Format.PREFERENCE: {"chosen": "chosen", "rejected": "rejected"},
}
_SPEAKERS = {
    "user": "user_tag",
    "assistant": "assistant_tag",
    "system": "system_tag",
    "tool": "observation_tag",
    "function_call": "function_tag",
}
_REQUIRED = ("instruction", "output", "messages", "chosen", "rejected", "text")


class NotASource(Exception):
    """Why an entry cannot be read, and what would be accepted, in words for who named it."""


def source(sets: object, name: str, folder: str, *, pretrain: bool) -> DataSource:
    """The source that `name` describes in a file of this folder, its path still to be found. Raises NotASource."""
    if not isinstance(sets, Mapping):
        raise NotASource("is no JSON object of names and data sets")
    entry = sets.get(name)
    if not isinstance(entry, Mapping):
        near = difflib.get_close_matches(name, list(sets), n=1)
        like = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(list(sets)[:12])}"
        raise NotASource(f"has no data set {name!r}{like}")
    columns, tags = _resolved(entry, "columns", _COLUMNS), _resolved(entry, "tags", _TAGS)
    by_turns = entry.get("formatting", "alpaca") != "alpaca"
    _check(name, entry, columns, by_turns=by_turns)
    if pretrain:
        return DataSource(
            path=_path(entry, folder), format=Format.TEXT, columns=_text(name, columns, by_turns=by_turns)
        )
    format_ = _format(entry, columns, by_turns=by_turns)
    fields = {**(_TURNS if by_turns else _ASKED), **_ANSWERS.get(format_, {})}
    if by_turns:
        fields.pop("output", None)
    named = {field: str(columns[theirs]) for field, theirs in fields.items() if columns.get(theirs)}
    missing = [theirs for field, theirs in fields.items() if field in _REQUIRED and field not in named]
    if missing:
        raise NotASource(f"lists columns of {name!r} without {missing[0]}, so there is none; list it")
    return DataSource(
        path=_path(entry, folder),
        format=format_,
        columns=Columns(**named, **(_keys(name, tags) if by_turns else {}), only=True),
        speakers=_speakers(tags) if by_turns else None,
        num_samples=entry.get("num_samples"),
    )


def _resolved(entry: Mapping[str, Any], part: str, usual: Mapping[str, str]) -> dict[str, Any]:
    given = entry.get(part)
    return dict(given) if isinstance(given, Mapping) else dict(usual)


def _check(name: str, entry: Mapping[str, Any], columns: Mapping[str, Any], *, by_turns: bool) -> None:
    for hub in _HUBS:
        if entry.get(hub):
            raise NotASource(
                f"takes {name!r} from {hub}, which is not read; download it, and give its file as file_name"
            )
    if not (entry.get("cloud_file_name") or entry.get("file_name")):
        raise NotASource(f"has no file_name for {name!r}")
    if by_turns and entry["formatting"] not in ("sharegpt", "openai"):
        raise NotASource(f"says formatting {entry['formatting']!r} of {name!r}; accepted is alpaca, sharegpt or openai")
    for media in _MEDIA:
        if columns.get(media):
            raise NotASource(f"lists {media} for {name!r}, which are not trained on; accepted are rows of text")
    if entry.get("split", "train") != "train":
        raise NotASource(f"says split {entry['split']!r} of {name!r}; a file has the split train only")
    if not isinstance(entry.get("num_samples", 1), int) or entry.get("num_samples", 1) < 1:
        raise NotASource(f"says num_samples {entry['num_samples']!r} of {name!r}; accepted is a number, at least 1")


def _path(entry: Mapping[str, Any], folder: str) -> str:
    """The cloud comes first there too."""
    return str(entry.get("cloud_file_name") or PurePosixPath(folder, str(entry["file_name"])))


def _format(entry: Mapping[str, Any], columns: Mapping[str, Any], *, by_turns: bool) -> Format:
    if entry.get("ranking"):
        return Format.PREFERENCE
    if columns.get("kto_tag"):
        return Format.KTO
    return Format.SHAREGPT if by_turns else Format.ALPACA


def _text(name: str, columns: Mapping[str, Any], *, by_turns: bool) -> Columns:
    """There a text is prompt and query; here it is one column."""
    if by_turns or columns.get("query") or not columns.get("prompt"):
        raise NotASource(f"describes {name!r} as questions; pretrain takes texts: list columns with prompt alone")
    return Columns(text=str(columns["prompt"]), only=True)


def _keys(name: str, tags: Mapping[str, Any]) -> dict[str, str]:
    for key in ("role_tag", "content_tag"):
        if not tags.get(key):
            raise NotASource(f"lists tags of {name!r} without {key}, so there is none; list it")
    return {"role": str(tags["role_tag"]), "content": str(tags["content_tag"])}


def _speakers(tags: Mapping[str, Any]) -> Speakers:
    return Speakers(**{ours: str(tags[theirs]) for ours, theirs in _SPEAKERS.items() if tags.get(theirs)})
