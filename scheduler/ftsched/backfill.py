"""When and where a job that does not fit now will: the future of the cluster as running jobs end, and what is kept.

A reservation is devices, not a count: enough free ones on the wrong hosts are none. What others may do with them until
then is written into the rooms themselves, so the check that places a job is the check that protects the first blocked
one. Nothing here decides who is first.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from math import inf

from ftsched.fit import UNLIMITED, Kept, Node, counted, less
from ftsched.model import Ask, Holding
from ftsched.places import Place, Places, idle_devices

# A job past its estimate, or asked to leave, is expected to be gone after this.
QUANTUM_SECONDS = 60.0


def expected_end(holding: Holding, now: float) -> float:
    """When a running job is expected to be gone; infinite if nobody knows."""
    if holding.leaving:
        return now + QUANTUM_SECONDS
    return inf if holding.run_seconds is None else now + max(holding.run_seconds, QUANTUM_SECONDS)


def by_end(holdings: Iterable[Holding], now: float) -> list[Holding]:
    """Running jobs, the first to end first; of those nobody knows, who has run least is expected to go on least."""

    def order(held: Holding) -> tuple[float, float, int, str]:
        size = len(held.devices) * held.reserved_bytes
        return (expected_end(held, now), held.attained_seconds, size, held.job)

    return sorted(holdings, key=order)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Where a job will fit, and when; infinite if nobody knows. The hosts of the place are as they will be then."""

    place: tuple[Place, ...]
    time: float


class Future:
    """The hosts as they will be for one ask as running jobs end; the present is not touched."""

    def __init__(self, places: Places, ask: Ask) -> None:
        self._places, self._ask = places, ask
        self._changed: dict[int, Node] = {}
        self._needs_hosts = ask.devices > places.most(ask)
        self._idle: dict[int, tuple[int, ...]] = {}
        if self._needs_hosts:
            self._note_idle(range(len(places.nodes)))

    def end(self, holding: Holding) -> tuple[Place, ...]:
        """Lets a running job end; where the ask then fits on the hosts of the job, or on whole hosts."""
        hosts: set[int] = set()
        for device in holding.devices:
            if found := self._places.where.get(device):
                node, position = found
                hosts.add(node.index)
                self._own(node.index).rooms[position].drop(holding.job, holding.ask, counted(holding, device))
        for index in hosts:
            node = self._own(index)
            node.left = less(node.left, holding.ask.host, -1)
        return self._whole(hosts) if self._needs_hosts else self._on_one(hosts)

    def _own(self, index: int) -> Node:
        if index not in self._changed:
            self._changed[index] = ahead(self._places.nodes[index])
        return self._changed[index]

    def _on_one(self, hosts: Iterable[int]) -> tuple[Place, ...]:
        for index in sorted(hosts):
            if positions := self._places.pick(self._own(index), self._ask):
                return (Place(self._own(index), positions),)
        return ()

    def _note_idle(self, hosts: Iterable[int]) -> None:
        for index in hosts:
            node = self._changed.get(index) or self._places.nodes[index]
            if not node.kept and (positions := idle_devices(node, self._ask)):
                self._idle[index] = positions

    def _whole(self, hosts: Iterable[int]) -> tuple[Place, ...]:
        """Idle hosts, the largest first; of the last one what is still needed."""
        self._note_idle(hosts)
        needed, found = self._ask.devices, []
        for index in sorted(self._idle, key=lambda index: (-len(self._idle[index]), index)):
            positions = self._idle[index][:needed]
            found.append(Place(self._own(index), positions))
            needed -= len(positions)
            if not needed:
                return tuple(found)
        return ()


def ahead(now: Node) -> Node:
    """A copy of a host to look ahead with. What is kept for one blocked job is not promised to another."""
    node = copy(now)
    node.rooms = [copy(room) for room in now.rooms]
    node.kept_left = None
    for room in node.rooms:
        if room.kept:
            room.held_bytes += UNLIMITED
            room.kept = None
    return node


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
            spare = 0 if ask.exclusive else max(0, then.open - 1)
            node.rooms[position].kept = Kept(job, until, then.free_bytes - ask.bytes_per_device, spare)
        node.kept_left = less(part.node.left, ask.host)
        places.changed(node)
