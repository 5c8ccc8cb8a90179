"""Why a job waits, with numbers, from the very offers that were refused.

`explain` is called by the plan only, with what the placement saw. Messages name devices as people see them and only
facts of the snapshot; they never guess when something ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from ftsched.fit import Lack, Offer, closest
from ftsched.model import Ask, Device, Foreign, Wait, WaitCode, Waiting

GIB = 2**30
MIB = 2**20
# A list in a message stops here; a host may have many devices and many processes.
SHOWN = 3


def explain(job: Waiting, found: Sequence[Offer], goal: Sequence[Offer], devices: Sequence[Device]) -> Wait:
    """The reason of a job that was not placed.

    `found` are the offers of all devices that suit it, `goal` the ones it gets first when jobs of ours end, `devices`
    all of the snapshot.
    """
    ask = job.ask
    on_one_host = Counter(offer.room.device.host for offer in found)
    if max(on_one_host.values(), default=0) < ask.devices:
        return Wait(job.job, WaitCode.DEVICE_MISSING, _missing(ask, devices))
    shown = goal or closest(found, ask.devices)
    lacking = [offer for offer in shown if offer.lack is not None]
    message = f"{_needs(ask)}; {_state(ask, shown, lacking)}"
    return Wait(job.job, _code(ask, goal, lacking), message, _waits_for(lacking))


def _code(ask: Ask, goal: Sequence[Offer], lacking: Sequence[Offer]) -> WaitCode:
    if not goal:
        return WaitCode.FOREIGN_PROCESS
    if all(offer.lack is Lack.KEPT for offer in lacking):
        return WaitCode.BEHIND_OTHER_JOBS
    if ask.pinned:
        return WaitCode.PINNED_DEVICES_BUSY
    if len(lacking) < ask.devices or any(offer.lack is Lack.SLOT for offer in lacking):
        return WaitCode.NOT_ENOUGH_FREE_DEVICES
    return WaitCode.NOT_ENOUGH_FREE_MEMORY


def _waits_for(lacking: Sequence[Offer]) -> tuple[str, ...]:
    kept_for = (offer.room.kept_for for offer in lacking if offer.room.kept_for)
    holders = chain.from_iterable(o.room.jobs for o in lacking if o.lack is not Lack.KEPT and o.ours_to_free)
    return tuple(dict.fromkeys(chain(kept_for, holders)))


def _needs(ask: Ask) -> str:
    size = show_size(ask.bytes_per_device)
    if ask.kind == "cpu":
        return f"needs {size} on the CPU"
    each = f"{size} on 1 GPU" if ask.devices == 1 else f"{size} on each of {ask.devices} GPUs"
    return f"needs {each}" + (f", pinned to {_some(ask.pinned)}" if ask.pinned else "")


def _state(ask: Ask, shown: Sequence[Offer], lacking: Sequence[Offer]) -> str:
    described = _some([_describe(offer) for offer in lacking], separator="; ")
    if ask.kind == "cpu":
        return described
    if ask.devices == 1:
        return f"best is {described}"
    ready = len(shown) - len(lacking)
    return f"{ready} {'is' if ready == 1 else 'are'} ready; the best others are {described}"


def _describe(offer: Offer) -> str:
    """E.g. "GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours"."""
    room = offer.room
    facts = [f"{show_size(room.free_bytes, down=True)} free"]
    if room.jobs:
        jobs = f"job {room.jobs[0]}" if len(room.jobs) == 1 else f"jobs {_some(room.jobs)}"
        facts.append(f"{show_size(room.held_bytes)} promised to {jobs}")
    facts += _outside(room.device, room.outside_bytes)
    if offer.lack is Lack.SLOT:
        limit = room.device.max_jobs
        facts.append("one job at a time" if limit == 1 else f"{limit} jobs at a time")
    if room.kept_for:
        facts.append(f"kept for job {room.kept_for}, which goes first")
    return f"{room.device.label} with {', '.join(facts)}"


def _outside(device: Device, outside_bytes: int) -> list[str]:
    processes = sorted(device.foreign, key=lambda p: (-p.bytes, p.pid))
    facts = [_held_by(process) for process in processes[:SHOWN]]
    rest = outside_bytes - sum(process.bytes for process in processes[:SHOWN])
    # The driver itself takes some hundred MiB of every card; only what would matter is worth a word.
    if rest >= GIB // 2:
        facts.append(f"{show_size(rest)} used by others")
    return facts


def _held_by(process: Foreign) -> str:
    size = show_size(process.bytes) if process.bytes else "some memory"
    return f"{size} held by pid {process.pid} ({process.name}), not ours"


def _missing(ask: Ask, devices: Sequence[Device]) -> str:
    if gone := [pin for pin in ask.pinned if pin not in {device.id for device in devices}]:
        return f"{_needs(ask)}; the host has no device {_some(gone)}"
    same = [d for d in devices if d.kind == ask.kind and (not ask.pinned or d.id in ask.pinned)]
    kind = "CPU" if ask.kind == "cpu" else "GPU"
    if not same:
        return f"{_needs(ask)}; there is no {kind}"
    large = sum(device.total_bytes >= ask.bytes_per_device for device in same)
    largest = max(same, key=lambda device: device.total_bytes)
    return (
        f"{_needs(ask)}; of {len(same)} {kind}{'s' if len(same) != 1 else ''} {large} can ever hold that, "
        f"the largest is {largest.label} with {show_size(largest.total_bytes, down=True)}"
    )


def _some(items: Sequence[str], separator: str = ", ") -> str:
    rest = len(items) - SHOWN
    return separator.join(items[:SHOWN]) + (f"{separator}and {rest} more" if rest > 0 else "")


def show_size(size: int, *, down: bool = False) -> str:
    """Bytes for people, in GiB or below one in MiB.

    Rounded up, or down for what is free: a need that is just over what there is must not read as if it fitted.
    """
    unit, name, steps = (GIB, "GiB", 10) if size >= GIB else (MIB, "MiB", 1)
    count = size * steps // unit if down else -(-size * steps // unit)
    return f"{count / steps:.1f} {name}" if steps > 1 else f"{count} {name}"
