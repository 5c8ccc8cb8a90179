"""The decision: which waiting jobs start now and where, and why every other one waits.

`plan(snapshot, now)` is pure: same snapshot, same plan. It never starts a part of a gang, never promises memory twice,
and never lets a later job take what the first blocked one waits for.

The rule for blocked jobs. Jobs are tried by priority, then age. The first job of each kind of device that does not fit,
but would once jobs of ours end, gets the devices where the least has to end kept for it: no later job starts there.
Those devices can only drain, so it starts in the end, while later jobs still use all others. A job that waits for a
process that is not ours keeps nothing: nobody knows when that ends, and a card kept idle for it helps no one; once
the process is gone the job is first again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ftsched.fit import Room, choose, nearest, offers, survey
from ftsched.model import Kind, Plan, Snapshot, Start, Wait, Waiting
from ftsched.reasons import explain


def plan(snapshot: Snapshot, now: float) -> Plan:
    """Who starts where, and why the others wait; `now` in seconds since the epoch gives the jobs their age."""
    rooms = survey(snapshot)
    starts: list[Start] = []
    waits: list[Wait] = []
    blocked: set[Kind] = set()
    for job in _in_order(snapshot.waiting, now):
        ask = job.ask
        found = offers(rooms.values(), ask)
        if chosen := choose(found, ask.devices):
            starts.append(Start(job.job, tuple(o.room.device.id for o in chosen)))
            _put(rooms, (o.room.take(job.job, ask.bytes_per_device) for o in chosen))
            continue
        goal = nearest(found, ask.devices)
        waits.append(explain(job, found, goal, snapshot.devices))
        if goal and ask.kind not in blocked:
            blocked.add(ask.kind)
            _put(rooms, (replace(o.room, kept_for=job.job) for o in goal))
    return Plan(tuple(starts), tuple(waits))


def _in_order(waiting: Iterable[Waiting], now: float) -> list[Waiting]:
    return sorted(waiting, key=lambda job: (-job.priority, -(now - job.queue_time), job.job))


def _put(rooms: dict[str, Room], changed: Iterable[Room]) -> None:
    for room in changed:
        rooms[room.device.id] = room
