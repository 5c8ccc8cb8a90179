"""When and where a job that does not fit now will: the future of the cluster as running jobs end, and what is kept.

A reservation is devices, not a count: enough free ones on the wrong hosts are none. What others may do with them until
then is written into the rooms themselves, so the check that places a job is the check that protects the first blocked
one. Nothing here decides who is first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf

from ftsched.devices import taken
from ftsched.fit import Kept, Left, Node, Room, counted, lack, less, suits
from ftsched.model import NOTHING, Ask, Holding
from ftsched.places import Place, Places, idle_devices

# A job past its estimate, or asked to leave, is expected to be gone after this.
QUANTUM_SECONDS = 60.0


def expected_end(holding: Holding, now: float) -> float:
    """When a running job is expected to be gone; infinite if nobody knows."""
    if holding.leaving:
        return now + QUANTUM_SECONDS
    if holding.run_seconds is None:
        return inf
    # Never later than it says: a reservation that is too late lets short jobs pass the first one for ever.
    return now + (holding.run_seconds if holding.run_seconds > 0 else QUANTUM_SECONDS)


def by_end(holdings: Iterable[Holding], now: float) -> Iterator[Holding]:
    """Running jobs, the first to end first; of those nobody knows, who has run least is expected to go on least."""
    holdings = list(holdings)
    ends = [expected_end(held, now) for held in holdings]
    order = sorted(range(len(holdings)), key=ends.__getitem__)
    # Seldom are many of them needed, so equals are not told apart before they are.
    for _, equals in groupby(order, key=ends.__getitem__):
        yield from sorted([holdings[at] for at in equals], key=_least)


def _least(held: Holding) -> tuple[float, int, str]:
    return (held.attained_seconds, len(held.devices) * held.reserved_bytes, held.job)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Where a job will fit, and when; infinite if nobody knows. The hosts of the place are as they will be then."""

    place: tuple[Place, ...]
    time: float


class Future:
    """The hosts as they will be for one ask as running jobs end; the present is not touched."""

    def __init__(self, places: Places, ask: Ask) -> None:
        self._places, self._ask = places, ask
        self._hosts: dict[int, _Host] = {}
        self._whole = ask.devices > places.most(ask)
        self._idle: dict[int, Place] = {}
        if self._whole:
            for node in places.nodes:
                self._note_idle(node)

    def end(self, holding: Holding) -> tuple[Place, ...]:
        """Lets a running job end; where the ask then fits on the hosts of the job, or on whole hosts."""
        where, touched = self._places.where, set()
        for device in holding.devices:
            if found := where.get(device):
                node, position = found
                host = self._hosts.get(node.index)
                if host is None:
                    host = self._hosts[node.index] = self._host(node)
                host.drop(holding, position, self._ask)
                touched.add(node.index)
        for index in sorted(touched):
            host = self._hosts[index]
            if holding.ask.host is not NOTHING:
                host.left = less(host.left, holding.ask.host, -1)
            if self._whole:
                self._note_idle(host.ahead())
            elif len(host.fits) >= self._ask.devices:
                node = host.ahead()
                if positions := self._places.pick(node, self._ask):
                    return (Place(node, positions),)
        return self._whole_hosts() if self._whole and touched else ()

    def _host(self, node: Node) -> _Host:
        ask, slots = self._ask, self._places.slots(node)
        may = [at for at, room in enumerate(node.rooms) if room.kept is None and suits(room.device, ask)]
        fits = {at for at in may if lack(slots[at], ask) is None}
        return _Host(node, may, fits, node.left if node.kept_left is None else node.kept_left)

    def _note_idle(self, node: Node) -> None:
        if not node.kept and (positions := idle_devices(node, self._ask)):
            self._idle[node.index] = Place(node, positions)

    def _whole_hosts(self) -> tuple[Place, ...]:
        """Idle hosts, the largest first; of the last one what is still needed."""
        needed, found = self._ask.devices, []
        for place in sorted(self._idle.values(), key=lambda place: (-len(place.positions), place.node.index)):
            found.append(Place(place.node, place.positions[:needed]))
            needed -= len(found[-1].positions)
            if not needed:
                return tuple(found)
        return ()


@dataclass(slots=True)
class _Host:
    """A host ahead: the rooms that changed, which devices may take one of the ask's, which of them could by then."""

    node: Node
    may: list[int]
    fits: set[int]
    left: Left
    rooms: dict[int, Room] = field(default_factory=dict)

    def drop(self, holding: Holding, position: int, ask: Ask) -> None:
        """A job ends there."""
        room = self.rooms.get(position) or self.node.rooms[position]
        room = self.rooms[position] = room.without(holding.job, holding.ask, counted(holding, room.device.id))
        if position in self.may and lack(room.slot(), ask) is None:
            self.fits.add(position)

    def ahead(self) -> Node:
        """The host as it will be. What is kept for one blocked job is not there for another."""
        rooms = [self.rooms.get(at) or room for at, room in enumerate(self.node.rooms)]
        rooms = [Room(room.device, room.card, closed=True) if room.kept else room for room in rooms]
        return replace(self.node, rooms=rooms, left=self.left, kept_left=None)


def reserve(places: Places, ask: Ask, running: Iterable[Holding], now: float) -> Reservation | None:
    """The first moment at which the ask fits if running jobs end as estimated, and where; None if it never does."""
    future = Future(places, ask)
    for holding in by_end(running, now):
        if place := future.end(holding):
            return Reservation(place, expected_end(holding, now))
    return None


def keep(places: Places, job: str, ask: Ask, reservation: Reservation) -> None:
    """Keeps the place: jobs that are over by then may use it, others only what the job will not need of it."""
    until = reservation.time if reservation.time < inf else -inf
    for part in reservation.place:
        node = places.nodes[part.node.index]
        for position in part.positions:
            then = part.node.rooms[position]
            spare = taken(then.slot(), ask)
            room = node.rooms[position]
            room.kept = Kept(job, until, spare.free_bytes, spare.open, room.jobs)
        node.kept_left = less(part.node.left, ask.host)
        places.changed(node)
