"""How much of a host is of no use to the jobs there are: the fragmentation gradient of FGD (Weng et al., ATC'23).

The waste of a host for a job is the idle memory that the job could not use: all of it if the job does not fit, else
what lies on devices with too little left. Averaged over the shapes of the queue and of the running jobs, it says what
a placement destroys. The largest shapes are never left out: without them whole hosts are broken up for small gains.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from ftsched.fit import Slot, able, has, lack
from ftsched.model import Ask

# Rarer shapes are counted as the next larger of these, which keeps a plan near-linear in the jobs.
SHAPES = 24
Left = tuple[int, int, int]


class Fragments:
    """The waste of host states, remembered."""

    def __init__(self, asks: Iterable[Ask]) -> None:
        self._shapes = _shapes(asks)
        self._known: dict[tuple[tuple[Slot, ...], Left], float] = {}

    def waste(self, slots: tuple[Slot, ...], left: Left) -> float:
        """Idle bytes of the host that an average job could not use."""
        key = (tuple(sorted(slots)), left)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = sum(share * _waste(key[0], left, ask) for ask, share in self._shapes)
        return found


def _waste(slots: tuple[Slot, ...], left: Left, ask: Ask) -> float:
    idle = usable = fitting = of_kind = 0
    for slot in slots:
        if slot.kind != ask.kind:
            continue
        of_kind += 1
        if not slot.open or not slot.fit:
            continue
        idle += slot.free_bytes
        if able(slot, ask) and lack(slot, ask) is None:
            usable += slot.free_bytes
            fitting += 1
    if fitting < min(ask.devices, of_kind) or not has(left, ask.host):
        return idle
    return idle - usable


def _shapes(asks: Iterable[Ask]) -> tuple[tuple[Ask, float], ...]:
    """The commonest shapes with their shares, and the largest; the others count as the smallest that covers them."""
    counts = Counter(asks)
    ordered = sorted(counts, key=lambda ask: (-counts[ask], _size(ask), ask.pinned))
    largest = sorted(counts, key=_size)[-1:]
    chosen = dict.fromkeys([*largest, *ordered[: SHAPES - 1]], 0)
    by_size = sorted(chosen, key=_size)
    sizes = [_size(ask) for ask in by_size]
    for ask, count in counts.items():
        chosen[by_size[min(bisect_left(sizes, _size(ask)), len(by_size) - 1)] if ask not in chosen else ask] += count
    total = sum(chosen.values())
    return tuple((ask, count / total) for ask, count in chosen.items())


def _size(ask: Ask) -> tuple[int, int, int, int, int]:
    return (ask.devices, ask.bytes_per_device, ask.host.cpu_milli, ask.host.memory_bytes, ask.host.disk_bytes)
