"""Which devices of one host a job takes, and how good that is: fast links first, then idle devices, then fragments.

A gang goes at the pace of its slowest link; trainings that share a device slow each other; and what a placement breaks
up, later jobs miss. Pure: slots in, positions out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, islice

from ftsched.fit import UNLIMITED, Left, Slot, able, has, lack
from ftsched.fragments import Fragments
from ftsched.model import Ask

# So many sets of linked devices are compared on one host: all there are of 8 devices.
SETS = 70
Links = tuple[tuple[int, ...], ...]
Positions = tuple[int, ...]
Rank = tuple[float, float, float, float]


class Chooser:
    """Chooses devices; `spread`: idle ones before shared ones, else where the least is broken up."""

    def __init__(self, fragments: Fragments, *, spread: bool) -> None:
        self._fragments = fragments
        self._spread = spread

    def choose(
        self, slots: Sequence[Slot], left: Left, links: Links, ask: Ask, allowed: Iterable[int] | None = None
    ) -> Positions:
        """The best devices for the ask, of the allowed ones if any are named; empty if there are too few."""
        among = range(len(slots)) if allowed is None else allowed
        usable = [i for i in among if lack(slots[i], ask) is None and able(slots[i].card, ask)]
        if len(usable) < ask.devices or not has(left, ask.host):
            return ()
        sets = self._sets(slots, usable, links, ask)
        if len(sets) == 1:
            return sets[0]
        return min(sets, key=lambda positions: (*self.rank(slots, left, links, ask, positions), positions))

    def rank(self, slots: Sequence[Slot], left: Left, links: Links, ask: Ask, positions: Positions) -> Rank:
        """How good the devices are for the ask; lower is better."""
        busy = sum(slots[i].jobs for i in positions) if self._spread else 0
        after = list(slots)
        for i in positions:
            after[i] = taken(slots[i], ask)
        rest = (left[0] - ask.host.cpu_milli, left[1] - ask.host.memory_bytes, left[2] - ask.host.disk_bytes)
        lost = self._fragments.waste(tuple(after), rest) - self._fragments.waste(tuple(slots), left)
        spare = sum(slot.free_bytes for slot in after)
        return (-_slowest(links, positions), busy, lost, spare)

    def _sets(self, slots: Sequence[Slot], usable: list[int], links: Links, ask: Ask) -> list[Positions]:
        """The sets of devices worth comparing."""
        if ask.devices == len(usable):
            return [tuple(usable)]
        # Idle and tight ones first; a device whose fast neighbours are taken before one that could be in a fast gang.
        order = [
            (slots[i].jobs if self._spread else 0, _neighbours(links, i, usable), slots[i].free_bytes, i)
            for i in usable
        ]
        order.sort()
        usable = [each[3] for each in order]
        if links and ask.devices > 1:
            return [tuple(sorted(found)) for found in islice(combinations(usable, ask.devices), SETS)]
        if self._spread or ask.devices > 1:
            return [tuple(sorted(usable[: ask.devices]))]
        return [(i,) for i in {slots[i]: i for i in reversed(usable)}.values()]


def taken(slot: Slot, ask: Ask) -> Slot:
    """The slot with the job on it."""
    left = 0 if ask.exclusive else slot.open if slot.open == UNLIMITED else slot.open - 1
    free = slot.free_bytes - ask.bytes_per_device if left else 0
    return slot._replace(free_bytes=free, jobs=slot.jobs + 1, open=left)


def _slowest(links: Links, positions: Positions) -> float:
    """The speed of the slowest link between the devices; between equals, the sum of all counts a little."""
    speeds = [links[a][b] for a, b in combinations(positions, 2)] if links else []
    return min(speeds) + sum(speeds) / (1 + len(speeds) * (1 + max(speeds))) if speeds else 0.0


def _neighbours(links: Links, device: int, usable: list[int]) -> int:
    return sum(links[device][other] for other in usable) if links else 0
