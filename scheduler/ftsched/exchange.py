"""Which of the waiting jobs start together: rather those that finish most jobs per second, by counts of devices.

Walking the queue by its key alone leaves devices idle before a wide job that just does not fit, or fills them with much
longer ones. So such a job goes before some that were to start, if it is worth more than they together. This only
reorders; whether a job fits is still asked of the places, and running jobs are never moved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from ftsched.model import Kind

# Among so many of those that would start, the last of them first: these are worth the least.
ASKED = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting job in the order of its key; `seconds` is how long it runs, aged, and infinite if nobody knows."""

    job: str
    kind: Kind
    width: float
    seconds: float

    @property
    def worth(self) -> float:
        """Jobs per second while it runs. One of unknown length neither gives way nor asks for it."""
        return 1.0 / max(self.seconds, 1e-9) if self.seconds < inf else inf


def exchanged(entries: Sequence[Entry], free: Mapping[Kind, float]) -> list[Entry]:
    """The same order, but who gives way comes right after the job it gives way to; `free` counts free devices.

    Nobody comes before more jobs than that: what is kept for the first blocked job stays kept.
    """
    room, order, starting = defaultdict(float, free), dict[str, Entry](), list[Entry]()
    for entry in entries:
        out = _giving_way(starting, entry, entry.width - room[entry.kind])
        for other in out:
            starting.remove(other)
            del order[other.job]
            room[other.kind] += other.width
        for each in (entry, *reversed(out)):
            order[each.job] = each
            if each.width <= room[each.kind]:
                starting.append(each)
                room[each.kind] -= each.width
    return list(order.values())


def _giving_way(starting: Sequence[Entry], entry: Entry, lacking: float) -> list[Entry]:
    """Who makes room for the job and is worth less than it, all of them together; nobody if that is not enough."""
    if not 0 < lacking < entry.width or entry.seconds == inf:
        return []
    worth, out = entry.worth, list[Entry]()
    for other in reversed(starting[-ASKED:]):
        if other.kind == entry.kind and other.worth < worth:
            worth -= other.worth
            lacking -= other.width
            out.append(other)
            if lacking <= 0:
                return out
    return []
