"""What no plan may ever do, on worlds that hypothesis makes up."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fleet import NOW, gib

from ftsched.backfill import expected_end
from ftsched.fit import suits
from ftsched.model import Ask, Device, Foreign, Holding, Host, Needs, Policy, Quota, Snapshot, Waiting
from ftsched.plan import Walk, plan

# The same worlds each time, however slow the machine is.
property_test = settings(derandomize=True, deadline=None, max_examples=100)
SIZES = st.integers(0, 96).map(gib)
NEEDS = st.integers(1, 96).map(gib)


@st.composite
def devices(draw: st.DrawFn) -> tuple[Device, ...]:
    found = []
    for index in range(draw(st.integers(0, 6))):
        total = draw(st.sampled_from([16, 24, 48, 80]))
        foreign = tuple(Foreign(100 + i, "x", draw(SIZES)) for i in range(draw(st.integers(0, 2))))
        found.append(
            Device(
                id=f"d{index}",
                host=draw(st.sampled_from(["one", "two"])),
                kind=draw(st.sampled_from(["gpu", "gpu", "cpu"])),
                name="n",
                index=index,
                total_bytes=gib(total),
                used_bytes=draw(SIZES),
                foreign=foreign,
                max_jobs=draw(st.sampled_from([None, 1, 2])),
            )
        )
    return tuple(found)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    found = draw(devices())
    ids = [device.id for device in found] + ["gone"]
    some = st.lists(st.sampled_from(ids), unique=True, max_size=3).map(tuple)
    projects, runs = st.sampled_from(["red", "blue"]), st.sampled_from([None, 60.0, 600.0, 6000.0])
    host_needs = st.builds(Needs, memory_bytes=st.sampled_from([0, 0, gib(8), gib(40)]))
    waiting = []
    for index in range(draw(st.integers(0, 8))):
        pinned = draw(st.one_of(st.just(()), st.just(()), some))
        count = len(pinned) or draw(st.integers(1, 5))
        ask = Ask(draw(st.sampled_from(["gpu", "gpu", "cpu"])), count, draw(NEEDS), pinned, draw(st.booleans()))
        ask = replace(ask, host=draw(host_needs))
        waiting.append(
            Waiting(
                f"w{index}",
                ask,
                draw(st.integers(-1, 1)),
                NOW - draw(st.integers(0, 3)),
                draw(projects),
                draw(runs),
                front=draw(st.booleans()),
            )
        )
    holding = tuple(
        Holding(
            f"h{index}",
            draw(some),
            Ask("gpu", 1, draw(SIZES)),
            draw(st.dictionaries(st.sampled_from(ids), SIZES, max_size=2)),
            draw(projects),
            draw(st.integers(-1, 1)),
            start_time=NOW - draw(st.sampled_from([10.0, 5000.0])),
            run_seconds=draw(runs),
            preemptible=draw(st.booleans()),
            leaving=draw(st.booleans()),
        )
        for index in range(draw(st.integers(0, 4)))
    )
    policy = Policy(
        placement=draw(st.sampled_from(["spread", "pack"])),
        backfill=draw(st.sampled_from(["easy", "fill", "none"])),
        preempt=draw(st.sampled_from(["off", "priority", "service"])),
        quotas={"red": Quota(devices=draw(st.sampled_from([None, 2, 6])), running=draw(st.sampled_from([None, 1, 3])))},
    )
    hosts = (Host("one", Needs(memory_bytes=gib(64))),)
    return Snapshot(found, tuple(waiting), holding, hosts, {"blue": draw(st.sampled_from([0.0, 1e6]))}, policy)


@property_test
@given(snapshots())
def test_every_job_starts_or_has_a_reason_with_numbers(snapshot: Snapshot) -> None:
    decision = plan(snapshot, NOW)
    answered = [start.job for start in decision.starts] + [wait.job for wait in decision.waits]
    assert sorted(answered) == sorted(job.job for job in snapshot.waiting)
    known = {job.job for job in snapshot.waiting} | {held.job for held in snapshot.holding}
    for wait in decision.waits:
        assert re.search(r"needs [0-9.]+ GiB", wait.message)
        assert set(wait.waits_for) <= known - {wait.job}


@property_test
@given(snapshots())
def test_no_device_is_promised_more_than_it_has(snapshot: Snapshot) -> None:
    asks = {job.job: job.ask for job in snapshot.waiting}
    decision = plan(snapshot, NOW)
    for device in snapshot.devices:
        new = [asks[start.job] for start in decision.starts if device.id in start.devices]
        if not new:
            continue
        held = [held for held in snapshot.holding if device.id in held.devices]
        live = [each.used_bytes.get(device.id, 0) for each in held]
        grown = sum(max(each.reserved_bytes, now) for each, now in zip(held, live, strict=True))
        promised = sum(ask.bytes_per_device for ask in new)
        assert max(0, device.used_bytes - sum(live)) + grown + promised <= device.total_bytes
        assert device.max_jobs is None or len(held) + len(new) <= device.max_jobs
        assert len(held) + len(new) == 1 or not any(ask.exclusive for ask in new)


@property_test
@given(snapshots())
def test_no_host_and_no_quota_is_overdrawn(snapshot: Snapshot) -> None:
    jobs = {job.job: job for job in snapshot.waiting}
    hosts = {device.id: device.host for device in snapshot.devices}
    decision = plan(snapshot, NOW)
    on_one = [s.job for s in decision.starts if "one" in {hosts[device] for device in s.devices}]
    assert sum(jobs[job].ask.host.memory_bytes for job in on_one) <= gib(64)
    red = [jobs[start.job] for start in decision.starts if jobs[start.job].project == "red"]
    held = [held for held in snapshot.holding if held.project == "red"]
    quota = snapshot.policy.quotas["red"]
    assert not red or quota.running is None or len(red) + len(held) <= quota.running
    gpus = sum(job.ask.devices for job in red if job.ask.kind == "gpu")
    assert not gpus or quota.devices is None or gpus + sum(h.ask.devices for h in held) <= quota.devices


@property_test
@given(snapshots())
def test_a_gang_is_whole_on_one_host_or_on_whole_hosts_and_only_where_it_may_be(snapshot: Snapshot) -> None:
    by_id = {device.id: device for device in snapshot.devices}
    asks = {job.job: job.ask for job in snapshot.waiting}
    for start in plan(snapshot, NOW).starts:
        ask, found = asks[start.job], [by_id[device] for device in start.devices]
        assert len(set(start.devices)) == len(found) == ask.devices
        assert {device.kind for device in found} == {ask.kind}
        assert not ask.pinned or set(start.devices) <= set(ask.pinned)
        could = Counter(device.host for device in snapshot.devices if suits(device, ask))
        if max(could.values()) >= ask.devices:
            assert len({device.host for device in found}) == 1


@property_test
@given(snapshots())
def test_the_order_of_the_queue_as_given_does_not_matter(snapshot: Snapshot) -> None:
    turned = replace(snapshot, waiting=tuple(reversed(snapshot.waiting)))
    assert plan(turned, NOW) == plan(snapshot, NOW)


@property_test
@given(snapshots())
def test_no_later_job_delays_the_reservation_of_the_first_blocked_one(snapshot: Snapshot) -> None:
    """Whatever started is still there at the reserved time if its estimate says so, and the first job starts then."""
    world = replace(snapshot, policy=replace(snapshot.policy, backfill="easy", preempt="off", quotas={}))
    walk = Walk(world, NOW)
    firsts = [refused for refused in walk.refused if refused.reservation and refused.reservation.time < inf]
    for refused in firsts:
        assert refused.reservation is not None
        then = refused.reservation.time
        running = [*world.holding, *walk.started]
        stay = tuple(held for held in running if expected_end(held, NOW) > then)
        gone = [held for held in world.holding if held not in stay]
        freed = tuple(
            replace(d, used_bytes=max(0, d.used_bytes - sum(held.used_bytes.get(d.id, 0) for held in gone)))
            for d in world.devices
        )
        later = plan(replace(world, devices=freed, waiting=(refused.job,), holding=stay), then)
        assert [start.job for start in later.starts] == [refused.job.job]


@property_test
@given(snapshots())
def test_a_preemption_hurts_nobody_it_must_not_and_makes_room(snapshot: Snapshot) -> None:
    jobs = {job.job: job for job in snapshot.waiting}
    held = {each.job: each for each in snapshot.holding}
    decision = plan(snapshot, NOW)
    stopped = [preemption.job for preemption in decision.preemptions]
    assert len(stopped) == len(set(stopped))
    assert snapshot.policy.preempt != "off" or not stopped
    for preemption in decision.preemptions:
        victim, job = held[preemption.job], jobs[preemption.for_job]
        assert victim.preemptible
        assert not victim.leaving
        assert NOW - victim.start_time >= snapshot.policy.min_run_seconds
        assert victim.priority < job.priority or snapshot.policy.preempt == "service"
        gone = [each for each in snapshot.holding if each.leaving or each.job in stopped]
        freed = tuple(
            replace(d, used_bytes=max(0, d.used_bytes - sum(each.used_bytes.get(d.id, 0) for each in gone)))
            for d in snapshot.devices
        )
        stay = tuple(each for each in snapshot.holding if each not in gone)
        alone = replace(snapshot, devices=freed, waiting=(job,), holding=stay, policy=Policy())
        assert [start.job for start in plan(alone, NOW).starts] == [job.job]


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.integers(0, 4), st.sampled_from([1, 2, 8]), st.sampled_from([None, 30.0, 300.0]))
def test_no_job_starves_however_many_shorter_ones_come(per_round: int, wide: int, run: float | None) -> None:
    """Each round brings short jobs, more than the devices can do; the long one starts all the same."""
    step = 10.0 if run else 1000.0
    host = tuple(Device(f"d{i}", "one", "gpu", "n", i, gib(80), 0, max_jobs=1) for i in range(8))
    policy = Policy(aging_seconds=100.0)
    queue = [Waiting("long", Ask("gpu", wide, gib(60)), 0, NOW, run_seconds=run)]
    running: list[tuple[float, Holding]] = []
    for round_ in range(3000):
        now = NOW + step * round_
        queue += [
            Waiting(f"s{round_}.{i}", Ask("gpu", 4, gib(60)), 0, now, run_seconds=1.5 * step) for i in range(per_round)
        ]
        running = [(end, held) for end, held in running if end > now]
        alive = tuple(replace(held, run_seconds=end - now) for end, held in running)
        walk = Walk(Snapshot(host, tuple(queue), alive, policy=policy), now)
        started = {start.job for start in walk.starts}
        if "long" in started:
            return
        running += [(now + 1.5 * step, held) for held in walk.started]
        # A crowd that only grows shows nothing that its first few do not, and takes for ever.
        queue = [job for job in queue if job.job not in started][:12]
    raise AssertionError("the long job never started")
