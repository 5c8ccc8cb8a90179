"""Where a job fits: the room of each device, and the one check of whether it can take a job now.

`lack` is the only judgement of a device: the placement asks it of slots, the reasons ask it of rooms, so a reason can
never disagree with the check that refused. Nothing here chooses between devices that fit, and nothing here reads a
clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import NamedTuple

from ftsched.model import NOTHING, Ask, Device, Holding, Kind, Needs, Snapshot

UNLIMITED = 1 << 60
# What is left of a host: CPU in thousandths of a core, memory and disk in bytes.
Left = tuple[int, int, int]
PLENTY = Needs(UNLIMITED, UNLIMITED, UNLIMITED)


@dataclass(frozen=True, eq=False, slots=True)
class Card:
    """What no job changes of a device. Devices of one make share theirs, so it is compared by identity."""

    kind: Kind
    name: str
    total_bytes: int
    fit: bool


class Slot(NamedTuple):
    """What the check looks at of a device. Devices with equal slots are as good as each other."""

    card: Card
    free_bytes: int
    jobs: int
    # How many more jobs it takes.
    open: int


class Lack(Enum):
    """Why a device cannot take a job now."""

    UNFIT = auto()
    SLOT = auto()
    MEMORY = auto()
    KEPT = auto()


@dataclass(slots=True)
class Kept:
    """A place on a device that is kept for a blocked job: others may use what it spares, or all of it until then.

    `behind` are the jobs that were on the device when it was kept.
    """

    job: str
    until: float
    spare_bytes: int
    spare_jobs: int
    behind: tuple[str, ...] = ()


@dataclass(slots=True)
class Room:
    """One device with what is spoken for, during one plan.

    `outside_bytes` is in use but not by jobs of ours. `held_bytes` counts each job of ours with what it was promised or
    what it uses, whichever is more: a young job has not grown into its promise, a wrong estimate has outgrown it.
    `closed`: a job on it wants to be alone.
    """

    device: Device
    card: Card
    outside_bytes: int = 0
    held_bytes: int = 0
    jobs: tuple[str, ...] = ()
    closed: bool = False
    kept: Kept | None = None
    # The slot as it is now, if somebody looked since the last change.
    now: Slot | None = None

    @property
    def free_bytes(self) -> int:
        """What can be promised now; never negative."""
        return max(0, self.device.total_bytes - self.outside_bytes - self.held_bytes)

    @property
    def own_bytes(self) -> int:
        """What could be promised if all jobs of ours ended."""
        return max(0, self.device.total_bytes - self.outside_bytes)

    def slot(self, ends: float = -inf) -> Slot:
        """As a job sees it that is over at `ends`: a place that is kept from then on is free for it until then."""
        kept = self.kept if self.kept and ends > self.kept.until else None
        if self.now and not kept:
            return self.now
        device, jobs = self.device, len(self.jobs)
        free = device.total_bytes - self.outside_bytes - self.held_bytes
        limit = device.max_jobs
        places = 0 if self.closed else UNLIMITED if limit is None else limit - jobs
        if kept:
            free, places = min(free, kept.spare_bytes), min(places, kept.spare_jobs)
        if places <= 0 or free < 0:
            free, places = 0, max(0, places)
        found = Slot(self.card, free, jobs, places)
        if not kept:
            self.now = found
        return found

    def put(self, job: str, ask: Ask, size: int, ends: float) -> None:
        """Promises `size` bytes to a job that is over at `ends`."""
        self.now = None
        self.held_bytes += size
        self.jobs = (*self.jobs, job)
        self.closed = self.closed or ask.exclusive
        if self.kept and ends > self.kept.until:
            self.kept.spare_bytes -= size
            self.kept.spare_jobs -= 1

    def without(self, job: str, ask: Ask, size: int) -> Room:
        """The room when the job has ended and given back what was counted for it; to look ahead with."""
        jobs = tuple([each for each in self.jobs if each != job])
        closed = self.closed and not ask.exclusive
        return Room(self.device, self.card, self.outside_bytes, self.held_bytes - size, jobs, closed, self.kept)


def able(card: Device | Card, ask: Ask) -> bool:
    """Whether a device of this kind, size and model could run the job if it were empty and fit."""
    if card.kind != ask.kind or card.total_bytes < ask.bytes_per_device:
        return False
    return not ask.models or card.name in ask.models


def suits(device: Device, ask: Ask) -> bool:
    """Whether the device could run the job if it were empty and fit."""
    return able(device, ask) and (not ask.pinned or device.id in ask.pinned)


def lack(slot: Slot, ask: Ask) -> Lack | None:
    """Why a device that suits the ask cannot take it now; None: it can."""
    if not slot.card.fit:
        return Lack.UNFIT
    if slot.open < 1 or (ask.exclusive and slot.jobs):
        return Lack.SLOT
    return Lack.MEMORY if slot.free_bytes < ask.bytes_per_device else None


def room_lack(room: Room, ask: Ask, ends: float) -> Lack | None:
    """The same of a room: KEPT if nothing but a place kept for another job refuses."""
    if found := lack(room.slot(), ask):
        return found
    return Lack.KEPT if room.kept and lack(room.slot(ends), ask) else None


@dataclass(slots=True)
class Node:
    """One host with the rooms of its devices, during one plan.

    `capacity` and `left` are CPU in thousandths of a core, memory and disk in bytes. `kept_left` is what jobs may take
    that are not over when the place on this host is kept for another one.
    """

    host: str
    index: int
    rooms: list[Room] = field(default_factory=list)
    capacity: Needs = PLENTY
    left: Left = (UNLIMITED, UNLIMITED, UNLIMITED)
    kept_left: Left | None = None
    # How fast the devices talk to each other, by their places in `rooms`; empty where nobody says.
    links: tuple[tuple[int, ...], ...] = ()

    @property
    def kept(self) -> bool:
        """Whether a place on it is kept for a blocked job."""
        return self.kept_left is not None

    def left_for(self, ends: float) -> Left:
        """What a job may take of the host that is over at `ends`."""
        if self.kept_left is None or ends <= self.until:
            return self.left
        cpu, memory, disk = self.kept_left
        return (min(cpu, self.left[0]), min(memory, self.left[1]), min(disk, self.left[2]))

    @property
    def until(self) -> float:
        """When the first of the places that are kept on it is needed."""
        return min((room.kept.until for room in self.rooms if room.kept), default=inf)

    def take(self, needs: Needs, ends: float) -> None:
        """Promises a job its part of the host."""
        if self.kept_left is not None and ends > self.until:
            self.kept_left = less(self.kept_left, needs)
        self.left = less(self.left, needs)


def less(left: Left, needs: Needs, sign: int = 1) -> Left:
    """What is left after the needs were taken, or with -1 given back."""
    cpu, memory, disk = left
    return (cpu - sign * needs.cpu_milli, memory - sign * needs.memory_bytes, disk - sign * needs.disk_bytes)


def has(left: Left, needs: Needs) -> bool:
    """Whether so much is left."""
    if needs is NOTHING:
        return True
    wanted = (needs.cpu_milli, needs.memory_bytes, needs.disk_bytes)
    return all(need <= there for need, there in zip(wanted, left, strict=True) if need)


def counted(holding: Holding, device: str) -> int:
    """What a job counts for on one of its devices: its promise, or what it uses if that is more."""
    return max(holding.reserved_bytes, holding.used_bytes.get(device, 0))


def survey(snapshot: Snapshot) -> list[Node]:
    """The hosts with their rooms, hosts and devices in the order of the snapshot."""
    nodes: dict[str, Node] = {}
    rooms: dict[str, Room] = {}
    cards: dict[tuple[Kind, str, int, bool], Card] = {}
    for device in snapshot.devices:
        node = nodes.get(device.host)
        if node is None:
            node = nodes[device.host] = Node(device.host, len(nodes))
        make = (device.kind, device.name, device.total_bytes, not device.unfit)
        card = cards.get(make)
        if card is None:
            card = cards[make] = Card(*make)
        rooms[device.id] = room = Room(device, card, device.used_bytes)
        node.rooms.append(room)
    for host in snapshot.hosts:
        if node := nodes.get(host.id):
            node.capacity, node.left = host.capacity, less((0, 0, 0), host.capacity, -1)
    for holding in snapshot.holding:
        _hold(holding, nodes, rooms)
    for room in rooms.values():
        # Our processes and the device are not read at the same instant, so ours may add up to more.
        room.outside_bytes = max(0, room.outside_bytes)
    for node in nodes.values():
        node.links = _links(node.rooms)
    return list(nodes.values())


def _hold(holding: Holding, nodes: dict[str, Node], rooms: dict[str, Room]) -> None:
    ask = holding.ask
    hosts = set()
    for device in holding.devices:
        if room := rooms.get(device):
            room.put(holding.job, ask, counted(holding, device), inf)
            room.outside_bytes -= holding.used_bytes.get(device, 0)
            hosts.add(room.device.host)
    if ask.host is not NOTHING:
        for host in hosts:
            nodes[host].take(ask.host, inf)


def _links(rooms: Iterable[Room]) -> tuple[tuple[int, ...], ...]:
    devices = [room.device for room in rooms]
    if not any(device.links for device in devices):
        return ()
    return tuple(tuple([one.links.get(other.id, 0) for other in devices]) for one in devices)
