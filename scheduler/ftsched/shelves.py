"""What is known of hosts that look alike: shelves of them, sorted by free memory, and what was refused to whom.

A cluster of a thousand hosts costs as much as it has different ones. Nothing here chooses a place or knows the queue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ftsched.devices import Links, Rank
from ftsched.fit import Left, Slot
from ftsched.model import Ask

# A family of asks by its number, how many devices, and bytes on each.
Key = tuple[int, int, int]


class Refused:
    """What was refused to a family of asks, the least of it: devices, bytes, and the time.

    Who asks for no less is refused, too; only a job that is over by then could be luckier.
    """

    def __init__(self) -> None:
        self._least: list[tuple[int, int, float]] = []

    def covers(self, ask: Ask, ends: float) -> bool:
        """Whether the ask of a job that is over at `ends` is known to find nothing."""
        for devices, size, until in self._least:
            if devices <= ask.devices and size <= ask.bytes_per_device and until < ends:
                return True
        return False

    def add(self, ask: Ask, until: float) -> None:
        """The ask found nothing, if its job is not over by `until`."""
        devices, size = ask.devices, ask.bytes_per_device
        self._least = [each for each in self._least if each[0] < devices or each[1] < size or each[2] < until]
        self._least.append((devices, size, until))


class Family:
    """Asks that differ in devices and bytes only, during one plan."""

    def __init__(self, number: int, hosts: Iterable[Sequence[int]]) -> None:
        """`hosts`: the sizes of the devices of each host that suit these asks but for their size."""
        self.number = number
        self._sizes, self._counts = _most(hosts)
        self.on_one_host, self.on_whole_hosts = Refused(), Refused()
        # By how many devices are asked for: the shelves that are looked at, one after the other.
        self.shelves: dict[int, tuple[Shelf, ...]] = {}

    def most(self, size: int) -> int:
        """The most devices that are as large on any host."""
        at = bisect_left(self._sizes, size)
        return self._counts[at] if at < len(self._counts) else 0


@dataclass(eq=False, slots=True)
class Group:
    """Hosts that look the same to every job, by index, and what is known of them for each ask."""

    slots: tuple[Slot, ...]
    left: Left
    links: Links
    hosts: list[int] = field(default_factory=list)
    picks: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[Key, Rank] = field(default_factory=dict)
    _frees: dict[tuple[str, bool], list[int]] = field(default_factory=dict)

    def free(self, kind: str, *, idle: bool) -> list[int]:
        """What devices that take one more job have free, the most first; of idle devices only or of all."""
        found = self._frees.get((kind, idle))
        if found is None:
            found = [
                slot.free_bytes
                for slot in self.slots
                if slot.open and not (idle and slot.jobs) and slot.card.kind == kind and slot.card.fit
            ]
            found.sort(reverse=True)
            self._frees[kind, idle] = found
        return found


class Shelf:
    """Groups sorted by the memory that so many of their devices have free, of idle devices only or of all."""

    def __init__(self, kind: str, devices: int, *, idle: bool) -> None:
        self._kind, self._devices, self._idle = kind, devices, idle
        # Free bytes, devices that are free besides, and when it was put up: of equals the fuller one is taken first.
        self._entries: list[tuple[int, int, int]] = []
        self._groups: list[Group] = []
        self._present: set[Group] = set()
        self._read = 0

    def update(self, log: Sequence[Group]) -> None:
        """Puts up the groups that got their first host since the last time."""
        if self._read == len(log):
            return
        for group in log[self._read :]:
            if not group.hosts or group in self._present:
                continue
            free = group.free(self._kind, idle=self._idle)
            if len(free) >= self._devices:
                self._present.add(group)
                insort(self._entries, (free[self._devices - 1], len(free), len(self._groups)))
                self._groups.append(group)
        self._read = len(log)

    def tightest(self, size: int) -> Iterator[Group]:
        """Groups with enough free, the least free first; those that lost all hosts are taken down on the way."""
        at = bisect_left(self._entries, (size,))
        while at < len(self._entries):
            group = self._groups[self._entries[at][2]]
            if group.hosts:
                yield group
                at += 1
            else:
                self._present.discard(group)
                del self._entries[at]


def _most(hosts: Iterable[Sequence[int]]) -> tuple[list[int], list[int]]:
    """The sizes of devices, ascending, and how many that are as large one host has at most."""
    most: dict[int, int] = {}
    for host in hosts:
        for count, size in enumerate(sorted(host, reverse=True), start=1):
            most[size] = max(most.get(size, 0), count)
    sizes = sorted(most)
    counts = list(accumulate((most[size] for size in reversed(sizes)), max))
    return sizes, counts[::-1]
