"""What each device says to one job: the same check and the same words as in the reason that it waits. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from ftsched.fit import Lack, Room, room_lack, suits, survey
from ftsched.model import Ask, Snapshot
from ftsched.reasons import Offer, describe, show_size


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a device could take the job now, and why not."""

    device: str
    label: str
    fits: bool
    message: str


def verdicts(snapshot: Snapshot, ask: Ask) -> Iterator[Verdict]:
    """The verdict of each device, in the order of the snapshot, without regard to who goes first."""
    for node in survey(snapshot):
        for room in node.rooms:
            yield _verdict(room, ask)


def _verdict(room: Room, ask: Ask) -> Verdict:
    device = room.device
    if not suits(device, ask):
        return Verdict(device.id, device.label, fits=False, message=_unsuited(room, ask))
    lack = room_lack(room, ask, inf)
    short = max(0, ask.bytes_per_device - room.free_bytes)
    ours = room.own_bytes >= ask.bytes_per_device
    message = describe(Offer(room, lack, short, int(lack is Lack.SLOT), ours, room.jobs))
    return Verdict(device.id, device.label, lack is None, message)


def _unsuited(room: Room, ask: Ask) -> str:
    device = room.device
    if device.kind != ask.kind:
        return f"is no {ask.kind.upper()}"
    if ask.pinned and device.id not in ask.pinned:
        return "is not among the devices that the job is pinned to"
    has = show_size(device.total_bytes, down=True)
    return f"has {has} in all, and the job needs {show_size(ask.bytes_per_device)}"
