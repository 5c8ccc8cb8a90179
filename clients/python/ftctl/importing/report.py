"""What became of each key of a file: the entries of a report, from the best to the worst kind. Knows no tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum, auto
from typing import Any


class Kind(StrEnum):
    """What became of a key, the best first."""

    # The same name and the same value.
    KEPT = auto()
    # Another name, or another form of the value.
    MAPPED = auto()
    # Not in the file, or a manner of the tool: what it does by itself is not what happens here by itself.
    DEFAULTED = auto()
    # Without it the training and its result are the same.
    IGNORED = auto()
    # Without it the training or its result would be another one.
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. `new` is what stands in the spec at `field` (None: nothing is written for it).

    For DEFAULTED, `value` is what the tool does and `ours` what happens here unless something is written.
    """

    key: str
    value: Any
    kind: Kind
    field: str = ""
    new: Any = None
    ours: Any = None
    # Why, or what is different about it.
    text: str = ""
    # What to do about a refusal.
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found in a file: its tool, the entries in the order of the kinds, and the spec they make."""

    tool: str
    entries: tuple[Entry, ...]
    spec: Mapping[str, Any]

    @property
    def faithful(self) -> bool:
        """Whether the spec trains what the file does: nothing is refused."""
        return not self.of(Kind.REFUSED)

    def of(self, kind: Kind) -> list[Entry]:
        """The entries of one kind, in the order of the file."""
        return [entry for entry in self.entries if entry.kind is kind]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the spec only if it is faithful."""
        return {
            "tool": self.tool,
            "faithful": self.faithful,
            "entries": [_without_nothing(asdict(entry)) for entry in self.entries],
            "spec": dict(self.spec) if self.faithful else None,
        }


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries by kind, the worst last."""
    kinds = list(Kind)
    return tuple(sorted(entries, key=lambda entry: kinds.index(entry.kind)))


def _without_nothing(entry: dict[str, Any]) -> dict[str, Any]:
    needed = ("key", "value", "kind")
    return {name: value for name, value in entry.items() if name in needed or value not in (None, "")}
