"""Where a job fits: the room of each device, what each can offer to an ask, and which devices to take.

The offers are the only judgement of a device: the placement picks from them and `ftsched.reasons` explains them, so a
reason can never disagree with the check that refused. Pure; nothing here changes its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import groupby

from ftsched.model import Ask, Device, Holding, Snapshot


@dataclass(frozen=True, slots=True)
class Room:
    """One device with what is spoken for.

    `outside_bytes` is in use but not by jobs of ours. `held_bytes` counts each job of ours with what it was promised or
    what it uses, whichever is more: a young job has not grown into its promise, a wrong estimate has outgrown it.
    """

    device: Device
    outside_bytes: int
    held_bytes: int
    jobs: tuple[str, ...]
    kept_for: str = ""

    @property
    def free_bytes(self) -> int:
        """What can be promised now; never negative."""
        return max(0, self.device.total_bytes - self.outside_bytes - self.held_bytes)

    @property
    def own_bytes(self) -> int:
        """What could be promised if all jobs of ours ended."""
        return max(0, self.device.total_bytes - self.outside_bytes)

    def take(self, job: str, size: int) -> Room:
        """The room after the job was promised `size` bytes."""
        return replace(self, held_bytes=self.held_bytes + size, jobs=(*self.jobs, job))


class Lack(Enum):
    """Why a device cannot take a job now."""

    MEMORY = auto()
    SLOT = auto()
    KEPT = auto()


@dataclass(frozen=True, slots=True)
class Offer:
    """What one device that suits an ask can give it: `lack` is None if it can take the job now."""

    room: Room
    lack: Lack | None
    short_bytes: int
    short_slots: int
    # Jobs of ours that end make it fit; false if memory outside our control must come back first.
    ours_to_free: bool


def survey(snapshot: Snapshot) -> dict[str, Room]:
    """The room of each device by id, in the order of the snapshot."""
    on: dict[str, list[Holding]] = {device.id: [] for device in snapshot.devices}
    for holding in snapshot.holding:
        for device_id in holding.devices:
            if device_id in on:
                on[device_id].append(holding)
    return {device.id: _room(device, on[device.id]) for device in snapshot.devices}


def _room(device: Device, holdings: Sequence[Holding]) -> Room:
    used = [holding.used_bytes.get(device.id, 0) for holding in holdings]
    return Room(
        device=device,
        # Our processes and the device are not read at the same instant, so ours may add up to more.
        outside_bytes=max(0, device.used_bytes - sum(used)),
        held_bytes=sum(max(h.reserved_bytes, u) for h, u in zip(holdings, used, strict=True)),
        jobs=tuple(h.job for h in holdings),
    )


def suits(device: Device, ask: Ask) -> bool:
    """Whether the device could run the job if it were empty."""
    allowed = not ask.pinned or device.id in ask.pinned
    return device.kind == ask.kind and allowed and device.total_bytes >= ask.bytes_per_device


def offers(rooms: Iterable[Room], ask: Ask) -> tuple[Offer, ...]:
    """What each device that suits the ask offers."""
    return tuple(_offer(room, ask) for room in rooms if suits(room.device, ask))


def _offer(room: Room, ask: Ask) -> Offer:
    limit = room.device.max_jobs
    short_slots = 0 if limit is None else max(0, len(room.jobs) + 1 - limit)
    short_bytes = max(0, ask.bytes_per_device - room.free_bytes)
    lack = None
    if short_slots:
        lack = Lack.SLOT
    elif short_bytes:
        lack = Lack.MEMORY
    elif room.kept_for:
        lack = Lack.KEPT
    return Offer(room, lack, short_bytes, short_slots, room.own_bytes >= ask.bytes_per_device)


def choose(found: Iterable[Offer], count: int) -> tuple[Offer, ...]:
    """The best `count` devices of one host that can take the job now, or none.

    Idle devices go first, since trainings that share one slow each other down; among equals the one with the least
    memory to spare, which leaves the large gaps to large jobs.
    """
    return _gang((o for o in found if o.lack is None), count)


def nearest(found: Iterable[Offer], count: int) -> tuple[Offer, ...]:
    """The `count` devices of one host that the end of jobs of ours frees with the least to wait for, or none."""
    return _gang((o for o in found if o.ours_to_free), count)


def closest(found: Iterable[Offer], count: int) -> tuple[Offer, ...]:
    """The `count` devices of one host that lack the least, whoever has it, or none."""
    return _gang(found, count)


def _gang(found: Iterable[Offer], count: int) -> tuple[Offer, ...]:
    ranked = sorted(found, key=lambda o: (o.room.device.host, *_rank(o)))
    hosts = (tuple(of_host)[:count] for _, of_host in groupby(ranked, key=lambda o: o.room.device.host))
    whole = [gang for gang in hosts if len(gang) == count]
    return min(whole, key=lambda gang: [_rank(o) for o in gang], default=())


def _rank(offer: Offer) -> tuple[int, int, int, int, int, str]:
    room = offer.room
    return (
        offer.short_slots,
        offer.short_bytes,
        len(room.jobs),
        room.free_bytes,
        room.device.index,
        room.device.id,
    )
