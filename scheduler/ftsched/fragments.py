"""How much of a host is of no use to the jobs there are: the fragmentation gradient of FGD (Weng et al., ATC'23).

The waste of a host for a job is the idle memory that the job could not use: all of it if the job does not fit, else
what lies on devices with too little left. Averaged over the shapes of the queue and of the running jobs, it says what
a placement destroys. The largest shapes are never left out: without them whole hosts are broken up for small gains.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from ftsched.fit import Left, Slot
from ftsched.model import Ask, Kind, Needs

# Rarer shapes are counted as the next larger of these, which bounds what a look at a host costs.
SHAPES = 32


class Shape(NamedTuple):
    """What jobs ask of devices; what they ask of hosts varies within a shape."""

    kind: Kind
    devices: int
    bytes_per_device: int
    exclusive: bool
    models: tuple[str, ...]


class _Weight(NamedTuple):
    """The share of a shape among the jobs, and of its jobs how many ask for how much of a host: CPU, memory, disk."""

    share: float
    needs: tuple[tuple[list[int], list[float]], ...]
    # What is enough for all of its jobs.
    most: Left

    def on(self, left: Left) -> float:
        """The share of jobs for which that much is enough; what a job asks for of each usually goes together."""
        if left[0] >= self.most[0] and left[1] >= self.most[1] and left[2] >= self.most[2]:
            return self.share * min(shares[-1] for _, shares in self.needs)
        enough = (shares[bisect_right(sizes, there)] for (sizes, shares), there in zip(self.needs, left, strict=True))
        return self.share * min(enough)


class Fragments:
    """The waste of hosts for the jobs of one snapshot, remembered by how they look."""

    def __init__(self, asks: Iterable[Ask]) -> None:
        self._asks = asks
        self._known: dict[tuple[tuple[tuple[str, str, int, bool], ...], Left], float] = {}

    @cached_property
    def _weights(self) -> dict[Kind, dict[Shape, _Weight]]:
        """Not before it is asked for: where there is one place, there is nothing to compare."""
        return _weights(Counter(self._asks))

    def waste(self, slots: Sequence[Slot], left: Left) -> float:
        """Idle bytes of the host that an average job of the same kind could not use."""
        key = (
            tuple(
                sorted((s.card.kind, s.card.name, s.free_bytes, s.jobs == 0) for s in slots if s.open and s.card.fit)
            ),
            left,
        )
        found = self._known.get(key)
        if found is None:
            found = sum(self._of_kind(kind, slots, left) for kind in self._weights)
            self._known[key] = found
        return found

    def _of_kind(self, kind: Kind, slots: Sequence[Slot], left: Left) -> float:
        mine = [slot for slot in slots if slot.card.kind == kind]
        ready = [slot for slot in mine if slot.open and slot.card.fit]
        idle = sum(slot.free_bytes for slot in ready)
        waste = 0.0
        known: dict[tuple[bool, tuple[str, ...]], tuple[list[int], list[int]]] = {}
        for shape, weight in self._weights[kind].items():
            group = (shape.exclusive, shape.models)
            if group not in known:
                known[group] = _tails(slot.free_bytes for slot in ready if _may(slot, shape))
            free, tails = known[group]
            first = bisect_left(free, shape.bytes_per_device)
            fits = len(free) - first >= min(shape.devices, len(mine))
            waste += weight.share * idle - (weight.on(left) * tails[first] if fits else 0.0)
        return waste


def _may(slot: Slot, shape: Shape) -> bool:
    return not (shape.exclusive and slot.jobs) and (not shape.models or slot.card.name in shape.models)


def _tails(sizes: Iterable[int]) -> tuple[list[int], list[int]]:
    """The sizes, ascending, and from each one on what they add up to."""
    ordered = sorted(sizes)
    return ordered, [*accumulate(reversed(ordered), initial=0)][::-1]


def _weights(counts: Mapping[Ask, int]) -> dict[Kind, dict[Shape, _Weight]]:
    """The shapes of each kind with their weights: the commonest and the largest, which stand for the others too."""
    jobs: dict[Kind, dict[Shape, Counter[Needs]]] = defaultdict(lambda: defaultdict(Counter))
    for ask, count in counts.items():
        shape = Shape(ask.kind, ask.devices, ask.bytes_per_device, ask.exclusive, ask.models)
        jobs[ask.kind][shape][ask.host] += count
    return {kind: _weighed(_merged(shapes)) for kind, shapes in jobs.items()}


def _merged(shapes: Mapping[Shape, Counter[Needs]]) -> Mapping[Shape, Counter[Needs]]:
    if len(shapes) <= SHAPES:
        return shapes
    common = sorted(shapes, key=lambda shape: (-shapes[shape].total(), shape))[: SHAPES - 1]
    chosen = sorted({*common, max(shapes)})
    merged: dict[Shape, Counter[Needs]] = defaultdict(Counter)
    for shape, needs in shapes.items():
        merged[chosen[min(bisect_left(chosen, shape), len(chosen) - 1)]].update(needs)
    return merged


def _weighed(shapes: Mapping[Shape, Counter[Needs]]) -> dict[Shape, _Weight]:
    total = sum(needs.total() for needs in shapes.values())
    found = {}
    for shape, needs in shapes.items():
        cumulative = _cumulative(needs)
        cpu, memory, disk = (sizes[-1] for sizes, _ in cumulative)
        found[shape] = _Weight(needs.total() / total, cumulative, (cpu, memory, disk))
    return found


def _cumulative(needs: Counter[Needs]) -> tuple[tuple[list[int], list[float]], ...]:
    """For CPU, memory and disk the sizes asked for, ascending, and which share of the jobs asks for no more."""
    total, found = needs.total(), []
    for name in ("cpu_milli", "memory_bytes", "disk_bytes"):
        ordered = sorted((int(getattr(each, name)), count) for each, count in needs.items())
        shares = accumulate((count / total for _, count in ordered), initial=0.0)
        found.append(([size for size, _ in ordered], list(shares)))
    return tuple(found)
