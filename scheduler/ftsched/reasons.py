"""Why a job waits, with numbers, from the very check that refused it.

The rooms are those at the end of the plan: nothing is given back during a plan, so what refused a job refuses it still.
Messages name devices as people see them and only facts of the snapshot; they never guess when something ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import chain
from typing import NamedTuple

from ftsched.backfill import Reservation
from ftsched.fit import Lack, Node, Room, room_lack, suits
from ftsched.model import Ask, Device, Foreign, Holding, Kind, Needs, Snapshot, Wait, WaitCode, Waiting
from ftsched.quotas import Excess

GIB = 2**30
MIB = 2**20
# A list in a message stops here; a host may have many devices and many processes.
SHOWN = 3
# In a large cluster the best device is looked for on so many hosts, those with the most room.
HOSTS = 16
Rank = tuple[bool, int, int, bool, int, int, int, str]


class Refusal(NamedTuple):
    """A job that does not start, and what the walk knows of it.

    `ends` is when it would be over if it started now. `behind` is the job that nothing may pass, `makers` those that
    leave to make room for it; it may have a reservation.
    """

    job: Waiting
    ends: float
    excess: Excess | None = None
    behind: str = ""
    reservation: Reservation | None = None
    makers: tuple[str, ...] = ()


class Offer(NamedTuple):
    """What one device that suits an ask can give it: `lack` is None if it can take the job now."""

    room: Room
    lack: Lack | None
    short_bytes: int
    short_slots: int
    # Jobs of ours that end make it fit; false if memory outside our control must come back first.
    ours_to_free: bool
    # Whose ends would help; not who merely passes the job that the device is kept for.
    holders: tuple[str, ...]


class Said(NamedTuple):
    """A reason without the job it is for."""

    code: WaitCode
    text: str
    waits_for: tuple[str, ...] = ()


class Shown:
    """The devices that a family of asks is shown, and what was said of them.

    Such asks differ in bytes only. So what the devices lack, and what is said of them, changes where the bytes pass
    what one of them has free, and nowhere else.
    """

    def __init__(self, rooms: Sequence[Room], ends: float) -> None:
        self.rooms = rooms
        slots = [slot for room in rooms for slot in (room.slot(), room.slot(ends))]
        self._steps = sorted({slot.free_bytes for slot in slots})
        self._largest = min((0 if room.device.unfit else room.own_bytes for room in rooms), default=0)
        self._said: dict[int, Said | None] = {}

    def could_be_freed_for(self, ask: Ask) -> bool:
        """Whether it takes no more than jobs of ours to end."""
        return ask.bytes_per_device <= self._largest

    def said(self, refusal: Refusal) -> Said | None:
        """What is wrong with them, without what is asked for; None: nothing is."""
        step = bisect_left(self._steps, refusal.job.ask.bytes_per_device)
        if step not in self._said:
            self._said[step] = _said(refusal.job.ask, [_offer(room, refusal) for room in self.rooms])
        return self._said[step]


class Reasons:
    """Explains the refusals of one plan; jobs that ask for the same share an explanation."""

    def __init__(self, snapshot: Snapshot, nodes: Sequence[Node]) -> None:
        self._snapshot, self._nodes = snapshot, nodes
        # Jobs differ in what is kept from them only by which of these times they are over before.
        self._untils = sorted({room.kept.until for node in nodes if node.kept for room in node.rooms if room.kept})
        self._known: dict[tuple[Ask, int], Said] = {}
        self._roomy: dict[Kind, list[Node]] = {}
        # Asks that differ in bytes only are shown the same devices, as long as jobs of ours could free them.
        self._shown: dict[object, list[Shown]] = defaultdict(list)

    def why(self, refusal: Refusal) -> Wait:
        """The reason of one job."""
        job, ask = refusal.job, refusal.job.ask
        if excess := refusal.excess:
            return Wait(job.job, WaitCode.QUOTA_REACHED, _over(job, excess), excess.jobs)
        if refusal.behind:
            text = f"{_needs(ask)}; nothing may pass job {refusal.behind}, which goes first"
            return Wait(job.job, WaitCode.BEHIND_OTHER_JOBS, text, (refusal.behind,))
        if refusal.makers:
            text = f"{_needs(ask)}; {_jobs(refusal.makers)} {'is' if len(refusal.makers) == 1 else 'are'} making room"
            return Wait(job.job, WaitCode.WAITING_FOR_PREEMPTION, text, refusal.makers)
        if reservation := refusal.reservation:
            offers = _reserved(self._nodes, refusal, reservation)
            return Wait(job.job, *self._say(ask, _said(ask, offers), offers[0].room))
        return Wait(job.job, *self._explain(refusal))

    def _explain(self, refusal: Refusal) -> Said:
        ask = refusal.job.ask
        until = bisect_left(self._untils, refusal.ends)
        family = (ask.kind, ask.devices, ask.pinned, ask.models, ask.exclusive, until)
        for shown in self._shown[family]:
            if shown.could_be_freed_for(ask):
                return self._say(ask, shown.said(refusal), shown.rooms[0])
        if (ask, until) not in self._known:
            self._known[ask, until] = self._look(refusal, family)
        return self._known[ask, until]

    def _look(self, refusal: Refusal, family: object) -> Said:
        """Explains it by the devices that are nearest to what it asks for."""
        ask = refusal.job.ask
        gangs = _gangs(self._hosts(ask), refusal)
        if sum(map(len, gangs)) < ask.devices:
            gangs = _gangs(self._nodes, refusal)
        if sum(map(len, gangs)) < ask.devices:
            return Said(WaitCode.DEVICE_MISSING, _missing(ask, self._snapshot.devices))
        shown = Shown([offer.room for offer in _best(gangs, ask.devices)], refusal.ends)
        if shown.could_be_freed_for(ask):
            self._shown[family].append(shown)
        return self._say(ask, shown.said(refusal), shown.rooms[0])

    def _say(self, ask: Ask, said: Said | None, first: Room) -> Said:
        if said is None:
            return self._host_lack(ask, first.device.host)
        return Said(said.code, f"{_needs(ask)}; {said.text}", said.waits_for)

    def _hosts(self, ask: Ask) -> list[Node]:
        """The hosts worth looking at for an explanation: those of pinned devices, else those with the most room."""
        if ask.pinned:
            return [node for node in self._nodes if any(room.device.id in ask.pinned for room in node.rooms)]
        if ask.kind not in self._roomy:
            self._roomy[ask.kind] = nlargest(HOSTS, self._nodes, key=lambda node: _free(node, ask.kind))
        return self._roomy[ask.kind]

    def _host_lack(self, ask: Ask, host: str) -> Said:
        """The devices would do, but not what is left of their host."""
        node = next(node for node in self._nodes if node.host == host)
        code, text = _short(ask.host, node)
        jobs = tuple(dict.fromkeys(chain.from_iterable(room.jobs for room in node.rooms)))
        holders = f", {_jobs(jobs)} hold the rest" if jobs else ""
        return Said(code, f"{_needs(ask)} and {text}{holders}", jobs)


def _said(ask: Ask, shown: Sequence[Offer]) -> Said | None:
    """What is wrong with the devices, without what is asked for; None: nothing is."""
    lacking = [offer for offer in shown if offer.lack is not None]
    if not lacking:
        return None
    return Said(_code(ask, shown, lacking), _state(ask, shown, lacking), _waits_for(lacking))


def _gangs(nodes: Iterable[Node], refusal: Refusal) -> list[tuple[Offer, ...]]:
    """Of each host the devices that are nearest to what the job asks for; no more than it asks for."""
    ask = refusal.job.ask
    found = ([_offer(room, refusal) for room in node.rooms if suits(room.device, ask)] for node in nodes)
    return [tuple(sorted(offers, key=_rank)[: ask.devices]) for offers in found if offers]


def _offer(room: Room, refusal: Refusal) -> Offer:
    ask, count = refusal.job.ask, len(room.jobs)
    found, holders = room_lack(room, ask, refusal.ends), room.jobs
    if room.kept and room.kept.job == refusal.job.job:
        found, holders = None if found is Lack.KEPT else found, room.kept.behind
    if ask.exclusive or room.closed:
        short_slots = count
    else:
        limit = room.device.max_jobs
        short_slots = 0 if limit is None or count < limit else count + 1 - limit
    short_bytes = max(0, ask.bytes_per_device - room.free_bytes)
    ours = not room.device.unfit and room.own_bytes >= ask.bytes_per_device
    return Offer(room, found, short_bytes, short_slots, ours, holders)


def _rank(offer: Offer) -> Rank:
    room = offer.room
    return (
        not offer.ours_to_free,
        offer.short_slots,
        offer.short_bytes,
        offer.lack is Lack.KEPT,
        len(room.jobs),
        room.free_bytes,
        room.device.index,
        room.device.id,
    )


def _best(gangs: Sequence[tuple[Offer, ...]], count: int) -> tuple[Offer, ...]:
    """The nearest gang on one host, or if no host has so many devices, the nearest hosts together."""

    def nearness(gang: tuple[Offer, ...]) -> tuple[bool, int, list[Rank]]:
        return (any(not o.ours_to_free for o in gang), sum(o.lack is not None for o in gang), [_rank(o) for o in gang])

    if whole := [gang for gang in gangs if len(gang) == count]:
        return min(whole, key=nearness) if len(whole) > 1 else whole[0]
    nearest = sorted(gangs, key=nearness)
    return tuple(chain.from_iterable(nearest))[:count]


def _reserved(nodes: Sequence[Node], refusal: Refusal, reservation: Reservation) -> tuple[Offer, ...]:
    places = ((nodes[part.node.index], at) for part in reservation.place for at in part.positions)
    return tuple(_offer(node.rooms[at], refusal) for node, at in places)


def _free(node: Node, kind: Kind) -> int:
    return sum(room.free_bytes for room in node.rooms if room.device.kind == kind and room.slot().open)


def _code(ask: Ask, shown: Sequence[Offer], lacking: Sequence[Offer]) -> WaitCode:
    if any(offer.lack is Lack.UNFIT for offer in lacking):
        return WaitCode.DEVICE_UNFIT
    if not all(offer.ours_to_free for offer in shown):
        return WaitCode.FOREIGN_PROCESS
    if all(offer.lack is Lack.KEPT for offer in lacking):
        return WaitCode.BEHIND_OTHER_JOBS
    if ask.pinned:
        return WaitCode.PINNED_DEVICES_BUSY
    if len(lacking) < ask.devices or any(offer.lack is Lack.SLOT for offer in lacking):
        return WaitCode.NOT_ENOUGH_FREE_DEVICES
    return WaitCode.NOT_ENOUGH_FREE_MEMORY


def _short(needs: Needs, node: Node) -> tuple[WaitCode, str]:
    cpu, memory, disk = node.left
    if needs.memory_bytes > memory:
        code, wanted, left, all_ = (
            WaitCode.NOT_ENOUGH_HOST_MEMORY,
            needs.memory_bytes,
            memory,
            node.capacity.memory_bytes,
        )
        what = "of host memory"
    elif needs.disk_bytes > disk:
        code, wanted, left, all_ = WaitCode.NOT_ENOUGH_DISK, needs.disk_bytes, disk, node.capacity.disk_bytes
        what = "of disk"
    elif needs.cpu_milli > cpu:
        there = f"{cpu / 1000:g} of {node.capacity.cpu_milli / 1000:g}"
        cores = f"{needs.cpu_milli / 1000:g} CPU cores; {node.host} has {there} left"
        return (WaitCode.NOT_ENOUGH_FREE_DEVICES, cores)
    else:
        return (WaitCode.BEHIND_OTHER_JOBS, f"{node.host}, which is kept for an earlier job")
    there = f"{show_size(max(0, left), down=True)} of {show_size(all_, down=True)}"
    return (code, f"{show_size(wanted)} {what}; {node.host} has {there} left")


def _over(job: Waiting, excess: Excess) -> str:
    def show(count: int) -> str:
        return show_size(count) if excess.what == "bytes" else f"{count}"

    what = {"jobs": "running jobs", "gpus": "GPUs", "bytes": "GPU memory"}[excess.what]
    return (
        f"{_needs(job.ask)}; project {job.project} may hold {show(excess.limit)} {what} at once, "
        f"holds {show(excess.held)}, and this job adds {show(excess.more)}"
    )


def show_preemption(held: Holding, job: Waiting) -> str:
    """Why a running job is stopped."""
    why = f"of priority {job.priority}" if held.priority != job.priority else "which is much shorter"
    return f"makes room for job {job.job}, {why}; goes on from its last checkpoint"


def _jobs(jobs: Sequence[str]) -> str:
    return f"job {jobs[0]}" if len(jobs) == 1 else f"jobs {_some(jobs)}"


def _waits_for(lacking: Sequence[Offer]) -> tuple[str, ...]:
    kept_for = (offer.room.kept.job for offer in lacking if offer.room.kept and offer.lack is Lack.KEPT)
    holders = chain.from_iterable(o.holders for o in lacking if o.lack is not Lack.KEPT and o.ours_to_free)
    return tuple(dict.fromkeys(chain(kept_for, holders)))


def _needs(ask: Ask) -> str:
    size = show_size(ask.bytes_per_device)
    if ask.kind == "cpu":
        return f"needs {size} on the CPU"
    each = f"{size} on 1 GPU" if ask.devices == 1 else f"{size} on each of {ask.devices} GPUs"
    return f"needs {each}" + (f", pinned to {_some(ask.pinned)}" if ask.pinned else "")


def _state(ask: Ask, shown: Sequence[Offer], lacking: Sequence[Offer]) -> str:
    described = _some([describe(offer) for offer in lacking[:SHOWN]], separator="; ")
    if len(lacking) > SHOWN:
        described += f"; and {len(lacking) - SHOWN} more"
    if ask.kind == "cpu":
        return described
    if ask.devices == 1:
        return f"best is {described}"
    ready = len(shown) - len(lacking)
    return f"{ready} {'is' if ready == 1 else 'are'} ready; the best others are {described}"


def describe(offer: Offer) -> str:
    """E.g. "GPU 2 with 22.4 GiB free, 9.6 GiB held by pid 4711 (python), not ours"."""
    room = offer.room
    facts = [f"{show_size(room.free_bytes, down=True)} free"]
    if room.jobs:
        facts.append(f"{show_size(room.held_bytes)} promised to {_jobs(room.jobs)}")
    facts += _outside(room.device, room.outside_bytes)
    if offer.lack is Lack.SLOT:
        facts.append(_limit(room))
    if room.kept and offer.lack is Lack.KEPT:
        facts.append(f"kept for job {room.kept.job}, which goes first")
    if offer.lack is Lack.UNFIT:
        facts.append(f"not to be used: {room.device.unfit}")
    return f"{room.device.label} with {', '.join(facts)}"


def _limit(room: Room) -> str:
    limit = room.device.max_jobs
    if room.closed or limit is None or len(room.jobs) < limit:
        return "not to be shared"
    return "one job at a time" if limit == 1 else f"{limit} jobs at a time"


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
