"""Where a job goes: the best devices for an ask, among hosts that are grouped by how they look.

An ask looks at the hosts with the least room that is enough, and at a bounded number of them. What was refused once is
remembered: during a plan nothing gives memory back. Nothing here knows the queue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from ftsched.devices import Chooser, Links, Rank
from ftsched.fit import Card, Left, Node, Slot, able, has, room_lack, suits
from ftsched.fragments import Fragments
from ftsched.model import NOTHING, Ask, Holding, Policy
from ftsched.shelves import Family, Group, Key, Shelf


@dataclass(frozen=True, slots=True)
class Place:
    """Devices of one host, by their positions on it."""

    node: Node
    positions: tuple[int, ...]


class Places:
    """All hosts during one plan: finds places, takes them, and remembers what was refused."""

    def __init__(self, nodes: Sequence[Node], fragments: Fragments, policy: Policy, compared: float = inf) -> None:
        """`compared`: so many groups of hosts are looked at for one ask, the tightest first."""
        self.nodes = nodes
        self._compared = compared
        self._spread = policy.placement == "spread"
        self._chooser = Chooser(fragments, spread=self._spread)
        self._groups: dict[tuple[tuple[Slot, ...], Left, int], Group] = {}
        # Links are large and often equal: groups are told apart by a number for them.
        wirings: dict[Links, int] = {}
        self._wiring = [wirings.setdefault(node.links, len(wirings)) for node in nodes]
        self._of: list[Group | None] = [None] * len(nodes)
        self._log: list[Group] = []
        self._shelves: dict[tuple[str, int, bool], Shelf] = {}
        self._kept: dict[int, Node] = {}
        self._untils: set[float] = set()
        self._families: dict[object, Family] = {}
        for node in nodes:
            self.changed(node)

    @cached_property
    def where(self) -> dict[str, tuple[Node, int]]:
        """Each device's host and its position there."""
        return {room.device.id: (node, at) for node in self.nodes for at, room in enumerate(node.rooms)}

    @cached_property
    def _makes(self) -> set[tuple[Card, ...]]:
        """The sets of devices that hosts have."""
        return {tuple([room.card for room in node.rooms]) for node in self.nodes}

    def find(self, ask: Ask, ends: float = inf) -> tuple[Place, ...]:
        """The best place of a job that is over at `ends`, in a part for each host it takes; empty if there is none."""
        family = self._family(ask)
        whole_hosts = ask.devices > family.most(ask.bytes_per_device)
        refused = family.on_whole_hosts if whole_hosts else family.on_one_host
        if refused.covers(ask, ends):
            return ()
        if whole_hosts:
            found = self.whole_hosts(self._idle_hosts(ask, ends), ask, ends)
        else:
            place = self._best(ask, ends, ())
            found = (place,) if place else ()
        if not found:
            # The kept places that refused it refuse all that are not over before the last of them.
            refused.add(ask, max((u for u in self._untils if u < ends), default=-inf))
        return found

    def most(self, ask: Ask) -> int:
        """The most devices that suit the ask on any host, were they all free."""
        return self._family(ask).most(ask.bytes_per_device)

    def _family(self, ask: Ask) -> Family:
        key = (ask.kind, ask.pinned, ask.models, ask.exclusive, None if ask.host is NOTHING else ask.host)
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = Family(len(self._families), self._sizes(ask))
        return family

    def _sizes(self, ask: Ask) -> Iterable[list[int]]:
        """Of each host that is not like another one the sizes of the devices that suit the ask but for their size."""
        any_size = replace(ask, bytes_per_device=0)
        if not ask.pinned:
            return [[card.total_bytes for card in make if able(card, any_size)] for make in self._makes]
        hosts = {self.where[pin][0].index for pin in ask.pinned if pin in self.where}
        rooms = [self.nodes[host].rooms for host in hosts]
        return [[room.device.total_bytes for room in each if suits(room.device, any_size)] for each in rooms]

    def _shelves_of(self, family: Family, ask: Ask) -> tuple[Shelf, ...]:
        found = family.shelves.get(ask.devices)
        if found is None:
            # Idle devices first, where that is the policy, and none but those for a job that is to be alone.
            looks = [True] if ask.exclusive else [True, False] if self._spread else [False]
            found = family.shelves[ask.devices] = tuple([self._shelf(ask, idle=idle) for idle in looks])
        return found

    def take(self, places: Iterable[Place], job: str, ask: Ask, ends: float) -> tuple[str, ...]:
        """Promises the place to a job that is over at `ends`; the ids of its devices."""
        taken: list[str] = []
        for place in places:
            node = place.node
            if ask.host is not NOTHING:
                node.take(ask.host, ends)
            for position in place.positions:
                room = node.rooms[position]
                room.put(job, ask, ask.bytes_per_device, ends)
                taken.append(room.device.id)
            self.changed(node, place.positions)
        return tuple(taken)

    def changed(self, node: Node, positions: Iterable[int] | None = None) -> None:
        """Puts a host into the group it now looks like; only devices at the positions changed, if those are given.

        A host with a kept place is in none, since it looks different to each job.
        """
        before = self._of[node.index]
        if before:
            del before.hosts[bisect_left(before.hosts, node.index)]
            self._of[node.index] = None
        if node.kept:
            self._kept[node.index] = node
            self._untils.update(room.kept.until for room in node.rooms if room.kept)
            return
        if before and positions is not None:
            slots = list(before.slots)
            for position in positions:
                slots[position] = node.rooms[position].slot()
        else:
            slots = [room.slot() for room in node.rooms]
        key = (tuple(slots), node.left, self._wiring[node.index])
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key[0], node.left, node.links)
        if not group.hosts:
            self._log.append(group)
        insort(group.hosts, node.index)
        self._of[node.index] = group

    def slots(self, node: Node) -> Sequence[Slot]:
        """The devices of the host as every job sees them."""
        group = self._of[node.index]
        return group.slots if group else [room.slot() for room in node.rooms]

    def hosts_of(self, holding: Holding) -> set[str]:
        """The hosts that a running job is on."""
        return {self.where[device][0].host for device in holding.devices if device in self.where}

    def pick(self, node: Node, ask: Ask, ends: float = inf) -> tuple[int, ...]:
        """The best devices of one host for a job that is over at `ends`, or none."""
        slots = [room.slot(ends) for room in node.rooms]
        pins = ask.pinned
        allowed = [i for i, room in enumerate(node.rooms) if room.device.id in pins] if pins else None
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
        family = self._family(ask)
        key = (family.number, ask.devices, ask.bytes_per_device)
        groups = self._fitting(self._shelves_of(family, ask), key, ask, but)
        if not groups:
            return self._best_node(self._kept, ask, ends, but)
        if len(groups) > 1:
            groups.sort(key=lambda each: (self._rank(each[0], key, ask), each[1]))
        group, host = groups[0]
        return Place(self.nodes[host], group.picks[key])

    def _best_node(self, hosts: Iterable[int], ask: Ask, ends: float, but: Container[int]) -> Place | None:
        nodes = [self.nodes[index] for index in sorted(hosts) if index not in but]
        found = [Place(node, positions) for node in nodes if (positions := self.pick(node, ask, ends))]
        if len(found) > 1:
            return min(found, key=lambda place: (self._rank_of(place, ask, ends), place.node.index))
        return found[0] if found else None

    def _rank_of(self, place: Place, ask: Ask, ends: float) -> Rank:
        node = place.node
        slots = [room.slot(ends) for room in node.rooms]
        return self._chooser.rank(slots, node.left_for(ends), node.links, ask, place.positions)

    def _fitting(self, shelves: Iterable[Shelf], key: Key, ask: Ask, but: Container[int]) -> list[tuple[Group, int]]:
        """Groups where the ask fits, each with its first host."""
        found: list[tuple[Group, int]] = []
        for shelf in shelves:
            shelf.update(self._log)
            for group in shelf.tightest(ask.bytes_per_device):
                if not self._pick(group, key, ask):
                    continue
                host = next((host for host in group.hosts if host not in but), None)
                if host is not None:
                    found.append((group, host))
                    if len(found) >= self._compared:
                        return found
            if found:
                break
        return found

    def _shelf(self, ask: Ask, *, idle: bool) -> Shelf:
        key = (ask.kind, ask.devices, idle)
        if key not in self._shelves:
            self._shelves[key] = Shelf(ask.kind, ask.devices, idle=idle)
        return self._shelves[key]

    def _pick(self, group: Group, key: Key, ask: Ask) -> tuple[int, ...]:
        found = group.picks.get(key)
        if found is None:
            found = group.picks[key] = self._chooser.choose(group.slots, group.left, group.links, ask)
        return found

    def _rank(self, group: Group, key: Key, ask: Ask) -> Rank:
        found = group.ranks.get(key)
        if found is None:
            found = self._chooser.rank(group.slots, group.left, group.links, ask, group.picks[key])
            group.ranks[key] = found
        return found


def idle_devices(node: Node, ask: Ask, ends: float = inf) -> tuple[int, ...]:
    """All devices of the host that suit the ask, if all of them are idle and can take it; else none."""
    suiting = [room for room in node.rooms if suits(room.device, ask)]
    if not has(node.left_for(ends), ask.host) or any(room.jobs or room_lack(room, ask, ends) for room in suiting):
        return ()
    return tuple(i for i, room in enumerate(node.rooms) if suits(room.device, ask))
