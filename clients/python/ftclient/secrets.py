"""Finds what looks like a secret in a spec. A spec is stored, shown and copied: it names secrets, and never has one.

Only forms that nothing else has are known here, so that no path, name or revision is taken for one. A value that is
found is never part of the text about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from finetuned.v1.job_pb2 import JobSpec
from ftclient.fields import is_map, paths

_FORMS = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a GitHub token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "an AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a signed token": re.compile(r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
# In a field for a secret's name alone: elsewhere such a text is a revision or a digest.
_KEY = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_WHY = "and a spec is stored and shown to others"
_INSTEAD = f"{_WHY}; keep it in a file of the host's secrets folder, and give the file's name"


def take_out(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Empties each text that looks like a secret, so that it is never sent; yields its path and what to do instead."""
    for field, value in message.ListFields():
        where = f"{path}.{field.name}" if path else str(field.name)
        if is_map(field):
            yield from _of(field, value, list(value), where + ".{}")
        elif field.is_repeated:
            yield from _of(field, value, range(len(value)), where + "[{}]")
        elif field.message_type:
            yield from take_out(value, where)
        elif problem := _problem(field.name, value):
            setattr(message, field.name, "")
            yield where, problem


def _of(field: Any, values: Any, keys: Iterable[Any], where: str) -> Iterator[tuple[str, str]]:
    """The same of a map or a list; `where` is the path of an entry with a place for its key."""
    for key in keys:
        if field.message_type and not is_map(field):
            yield from take_out(values[key], where.format(key))
        elif problem := _problem(field.name, values[key]):
            values[key] = ""
            yield where.format(key), problem


def _problem(name: str, value: Any) -> str:
    """What to say about a value, nothing of one that is no secret."""
    if not isinstance(value, str):
        return ""
    if _PASSWORD_IN_URL.search(value):
        return f"is a URL with a password, {_WHY}; give one that needs none"
    form = next((form for form, pattern in _FORMS.items() if pattern.search(value)), "")
    of_name = name.endswith("_secret")
    if of_name and _KEY.fullmatch(value):
        form = "a key"
    place = "here" if of_name else f"in {_places()}"
    return f"looks like {form}, {_INSTEAD} {place}" if form else ""


@cache
def _places() -> str:
    """The fields that take the name of a secret."""
    found = [path.removeprefix("training.") for path in paths(JobSpec.DESCRIPTOR) if path.endswith("_secret")]
    return f"{', '.join(found[:-1])} or {found[-1]}"
