"""Where a job goes: the best devices for an ask, among hosts that are grouped by how they look.

Hosts that look the same are one group, so a cluster of a thousand hosts costs as much as it has different ones; shelves
keep the groups sorted by free memory, so an ask looks at the tightest ones first and at a bounded number. What was
refused once is remembered: during a plan nothing gives memory back. Nothing here knows the queue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf

from ftsched.devices import Chooser, Links, Rank
from ftsched.fit import Node, Slot, has, room_lack, suits
from ftsched.fragments import Fragments, Left
from ftsched.model import Ask, Policy

# So many groups of hosts are compared for one ask, the tightest first.
COMPARED = 32


@dataclass(frozen=True, slots=True)
class Place:
    """Devices of one host, by their positions on it."""

    node: Node
    positions: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Group:
    """Hosts that look the same to every job, by index, and what is known of them for each ask."""

    slots: tuple[Slot, ...]
    left: Left
    links: Links
    hosts: list[int] = field(default_factory=list)
    picks: dict[Ask, tuple[int, ...]] = field(default_factory=dict)
    ranks: dict[Ask, Rank] = field(default_factory=dict)


class Shelf:
    """Groups sorted by the memory that so many of their devices have free, of idle devices only or of all."""

    def __init__(self, kind: str, devices: int, *, idle: bool) -> None:
        self._kind, self._devices, self._idle = kind, devices, idle
        self._entries: list[tuple[int, int]] = []
        self._groups: list[Group] = []
        self._present: set[Group] = set()
        self._read = 0

    def update(self, log: Sequence[Group]) -> None:
        """Puts up the groups that got their first host since the last time."""
        for group in log[self._read :]:
            if group.hosts and group not in self._present:
                self._present.add(group)
                self._groups.append(group)
                for free in self._levels(group):
                    insort(self._entries, (free, len(self._groups) - 1))
        self._read = len(log)

    def _levels(self, group: Group) -> Iterator[int]:
        free = [s.free_bytes for s in group.slots if s.kind == self._kind and s.open and not (self._idle and s.jobs)]
        free.sort(reverse=True)
        enough = free[self._devices - 1 :]
        return (size for size, following in pairwise([*enough, -1]) if size != following)

    def tightest(self, size: int) -> Iterator[Group]:
        """Groups with enough free, the least free first; those that lost all hosts are taken down on the way."""
        at = bisect_left(self._entries, (size, -1))
        while at < len(self._entries):
            group = self._groups[self._entries[at][1]]
            if group.hosts:
                yield group
                at += 1
            else:
                self._present.discard(group)
                del self._entries[at]


class Places:
    """All hosts during one plan: finds places, takes them, and remembers what was refused."""

    def __init__(self, nodes: Sequence[Node], fragments: Fragments, policy: Policy) -> None:
        self.nodes = nodes
        self._spread = policy.placement == "spread"
        self._chooser = Chooser(fragments, spread=self._spread)
        self._groups: dict[tuple[tuple[Slot, ...], Left, Links], Group] = {}
        self._of: list[Group | None] = [None] * len(nodes)
        self._log: list[Group] = []
        self._shelves: dict[tuple[str, int, bool], Shelf] = {}
        self._kept: dict[int, Node] = {}
        self._refused: dict[object, list[tuple[int, int, float]]] = {}
        self._most: dict[object, int] = {}
        # Each device's host and its position there.
        self.where = {room.device.id: (node, at) for node in nodes for at, room in enumerate(node.rooms)}
        for node in nodes:
            self.changed(node)

    def find(self, ask: Ask, ends: float = inf) -> tuple[Place, ...]:
        """The best place of a job that is over at `ends`, in a part for each host it takes; empty if there is none."""
        family = (ask.kind, ask.pinned, ask.models, ask.exclusive, ask.host)
        refused = self._refused.setdefault(family, [])
        if any(n <= ask.devices and size <= ask.bytes_per_device and end <= ends for n, size, end in refused):
            return ()
        if ask.devices <= self.most(ask):
            place = self._best(ask, ends, ())
            found: tuple[Place, ...] = (place,) if place else ()
        else:
            found = self.whole_hosts(self._idle_hosts(ask, ends), ask, ends)
        if not found:
            refused.append((ask.devices, ask.bytes_per_device, ends))
        return found

    def take(self, places: Iterable[Place], job: str, ask: Ask, ends: float) -> tuple[str, ...]:
        """Promises the place to a job that is over at `ends`; the ids of its devices."""
        taken: list[str] = []
        for place in places:
            node = place.node
            node.take(ask.host, ends)
            for position in place.positions:
                node.rooms[position].put(job, ask, ask.bytes_per_device, ends)
                taken.append(node.rooms[position].device.id)
            self.changed(node)
        return tuple(taken)

    def changed(self, node: Node) -> None:
        """Puts a host into the group it now looks like. A host with a kept place looks different to each job."""
        if group := self._of[node.index]:
            del group.hosts[bisect_left(group.hosts, node.index)]
            self._of[node.index] = None
        if node.kept:
            self._kept[node.index] = node
            return
        key = (tuple([room.slot() for room in node.rooms]), node.left, node.links)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(*key)
        if not group.hosts:
            self._log.append(group)
        insort(group.hosts, node.index)
        self._of[node.index] = group

    def most(self, ask: Ask) -> int:
        """The most devices that suit the ask on any host, were they all free."""
        key = (ask.kind, ask.bytes_per_device, ask.models, ask.pinned)
        if key not in self._most:
            counts = (sum(suits(room.device, ask) for room in node.rooms) for node in self.nodes)
            self._most[key] = max(counts, default=0)
        return self._most[key]

    def pick(self, node: Node, ask: Ask, ends: float = inf) -> tuple[int, ...]:
        """The best devices of one host for a job that is over at `ends`, or none."""
        slots = [room.slot(ends) for room in node.rooms]
        allowed = [i for i, room in enumerate(node.rooms) if not ask.pinned or room.device.id in ask.pinned]
        return self._chooser.choose(slots, node.left_for(ends), node.links, ask, allowed)

    def whole_hosts(self, idle: Sequence[tuple[Node, tuple[int, ...]]], ask: Ask, ends: float) -> tuple[Place, ...]:
        """A gang that is larger than any host: wholly idle hosts, the largest first, and a part of one for the rest."""
        needed, found = ask.devices, []
        for node, positions in sorted(idle, key=lambda each: (-len(each[1]), each[0].index)):
            if len(positions) <= needed:
                needed -= len(positions)
                found.append(Place(node, positions))
        if needed >= self.most(ask):
            return ()
        if needed:
            rest = self._best(replace(ask, devices=needed), ends, {place.node.index for place in found})
            return (*found, rest) if rest and found else ()
        return tuple(found)

    def _idle_hosts(self, ask: Ask, ends: float) -> list[tuple[Node, tuple[int, ...]]]:
        found = ((node, idle_devices(node, ask, ends)) for node in self.nodes)
        return [(node, positions) for node, positions in found if positions]

    def _best(self, ask: Ask, ends: float, but: Container[int]) -> Place | None:
        """The best place on one host, on others than `but`; a host with a kept place only if there is no other."""
        if ask.pinned:
            hosts = {self.where[pin][0].index for pin in ask.pinned if pin in self.where}
            return self._best_node(hosts, ask, ends, but)
        groups = self._fitting(ask, but)
        if not groups:
            return self._best_node(self._kept, ask, ends, but)
        if len(groups) > 1:
            groups.sort(key=lambda each: (self._rank(each[0], ask), each[1]))
        group, host = groups[0]
        return Place(self.nodes[host], group.picks[ask])

    def _best_node(self, hosts: Iterable[int], ask: Ask, ends: float, but: Container[int]) -> Place | None:
        found = []
        for index in sorted(hosts):
            node = self.nodes[index]
            if index not in but and (positions := self.pick(node, ask, ends)):
                slots = [room.slot(ends) for room in node.rooms]
                rank = self._chooser.rank(slots, node.left_for(ends), node.links, ask, positions)
                found.append((rank, index, positions))
        if not found:
            return None
        _, index, positions = min(found)
        return Place(self.nodes[index], positions)

    def _fitting(self, ask: Ask, but: Container[int]) -> list[tuple[Group, int]]:
        """Groups where the ask fits, each with its first host."""
        found: dict[Group, int] = {}
        for idle in (True, False):
            if idle and not (self._spread or ask.exclusive):
                continue
            for group in self._shelf(ask, idle=idle).tightest(ask.bytes_per_device):
                if (
                    self._pick_of(group, ask)
                    and (host := next((h for h in group.hosts if h not in but), None)) is not None
                ):
                    found[group] = host
                    if len(found) == COMPARED:
                        break
            if found:
                break
        return list(found.items())

    def _shelf(self, ask: Ask, *, idle: bool) -> Shelf:
        key = (ask.kind, ask.devices, idle)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = Shelf(ask.kind, ask.devices, idle=idle)
        shelf.update(self._log)
        return shelf

    def _pick_of(self, group: Group, ask: Ask) -> tuple[int, ...]:
        found = group.picks.get(ask)
        if found is None:
            found = group.picks[ask] = self._chooser.choose(group.slots, group.left, group.links, ask)
        return found

    def _rank(self, group: Group, ask: Ask) -> Rank:
        found = group.ranks.get(ask)
        if found is None:
            positions = group.picks[ask]
            found = self._chooser.rank(group.slots, group.left, group.links, ask, positions)
            group.ranks[ask] = found
        return found


def idle_devices(node: Node, ask: Ask, ends: float = inf) -> tuple[int, ...]:
    """All devices of the host that suit the ask, if all of them are idle and can take it; else none."""
    suiting = [room for room in node.rooms if suits(room.device, ask)]
    if not has(node.left_for(ends), ask.host) or any(room.jobs or room_lack(room, ask, ends) for room in suiting):
        return ()
    return tuple(i for i, room in enumerate(node.rooms) if suits(room.device, ask))
