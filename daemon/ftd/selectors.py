"""Label selectors, written as Kubernetes writes them: which labels fit, as a value that can be asked and searched by.

    team=cx,stage!=test,size in (s, m),tier notin (free),owner,!draft

All requirements must hold. A job without the label fits `!=` and `notin`. Pure; how rows are searched is `ftd.store`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto

from ftd.errors import InvalidRequest

_ACCEPTED = "accepted is e.g. team=cx,stage!=test,size in (s,m),tier notin (free),owner,!draft"
# A key may be no word of the language; a value may be empty.
_KEY = r"[^\s,=!()]+"
_VALUE = r"[^\s,=!()]*"
_REQUIREMENT = re.compile(
    rf"""\s*(?: !\s*(?P<absent>{_KEY})
    | (?P<key>{_KEY}) (?: \s*(?P<sign>==?|!=)\s*(?P<value>{_VALUE})
                        | \s+(?P<word>in|notin)\s*\((?P<values>\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\) )? )\s*(?:,|$)""",
    re.VERBOSE,
)


class Need(StrEnum):
    """What a requirement asks of a label."""

    IN = auto()
    NOT_IN = auto()
    EXISTS = auto()
    ABSENT = auto()


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; `values` belong to IN and NOT_IN."""

    key: str
    need: Need
    values: tuple[str, ...] = ()

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are as required."""
        match self.need:
            case Need.IN:
                return labels.get(self.key) in self.values
            case Need.NOT_IN:
                return labels.get(self.key) not in self.values
            case Need.EXISTS:
                return self.key in labels
            case Need.ABSENT:
                return self.key not in labels


# All of these must hold; none fits every job.
Selector = tuple[Requirement, ...]


def parse(text: str) -> Selector:
    """The selector that a text means; an empty one fits all. Raises InvalidRequest, which says from where on."""
    found: list[Requirement] = []
    place = 0
    while place < len(text.rstrip()):
        match = _REQUIREMENT.match(text, place)
        # A comma at the end would be followed by a requirement.
        if match is None or (match.end() >= len(text.rstrip()) and match[0].rstrip().endswith(",")):
            raise InvalidRequest(f"selector means nothing from {text[place:].strip()!r} on; {_ACCEPTED}")
        found.append(_requirement(match))
        place = match.end()
    return tuple(found)


def fits(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels fit all requirements."""
    return all(requirement.fits(labels) for requirement in selector)


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(match["absent"], Need.ABSENT)
    if match["sign"]:
        return Requirement(match["key"], Need.NOT_IN if match["sign"] == "!=" else Need.IN, (match["value"],))
    if match["word"]:
        values = tuple(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], Need.IN if match["word"] == "in" else Need.NOT_IN, values)
    return Requirement(match["key"], Need.EXISTS)
