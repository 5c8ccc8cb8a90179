"""What no plan may ever do, on worlds that hypothesis makes up."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fleet import NOW, gib

from ftsched.model import Ask, Device, Foreign, Holding, Snapshot, Waiting
from ftsched.plan import plan

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
    waiting = []
    for index in range(draw(st.integers(0, 8))):
        pinned = draw(st.one_of(st.just(()), some))
        count = len(pinned) or draw(st.integers(1, 4))
        ask = Ask(draw(st.sampled_from(["gpu", "cpu"])), count, draw(NEEDS), pinned)
        waiting.append(Waiting(f"w{index}", ask, draw(st.integers(-1, 1)), NOW - draw(st.integers(0, 3))))
    holding = tuple(
        Holding(
            f"h{index}",
            draw(some),
            Ask("gpu", 1, draw(SIZES)),
            draw(st.dictionaries(st.sampled_from(ids), SIZES, max_size=2)),
        )
        for index in range(draw(st.integers(0, 4)))
    )
    return Snapshot(found, tuple(waiting), holding)


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
    for device in snapshot.devices:
        new = [asks[start.job].bytes_per_device for start in plan(snapshot, NOW).starts if device.id in start.devices]
        if not new:
            continue
        held = [held for held in snapshot.holding if device.id in held.devices]
        live = [each.used_bytes.get(device.id, 0) for each in held]
        grown = sum(max(each.reserved_bytes, now) for each, now in zip(held, live, strict=True))
        assert max(0, device.used_bytes - sum(live)) + grown + sum(new) <= device.total_bytes
        assert device.max_jobs is None or len(held) + len(new) <= device.max_jobs


@property_test
@given(snapshots())
def test_a_start_has_all_its_devices_on_one_host_and_only_those_it_may_use(snapshot: Snapshot) -> None:
    by_id = {device.id: device for device in snapshot.devices}
    asks = {job.job: job.ask for job in snapshot.waiting}
    for start in plan(snapshot, NOW).starts:
        ask, found = asks[start.job], [by_id[device] for device in start.devices]
        assert len(set(start.devices)) == len(found) == ask.devices
        assert len({device.host for device in found}) == 1
        assert {device.kind for device in found} == {ask.kind}
        assert not ask.pinned or set(start.devices) <= set(ask.pinned)


@property_test
@given(snapshots())
def test_what_comes_later_never_changes_what_comes_first(snapshot: Snapshot) -> None:
    decision = plan(snapshot, NOW)
    ordered = sorted(snapshot.waiting, key=lambda job: (-job.priority, job.queue_time, job.job))
    for count in range(len(ordered)):
        first = plan(Snapshot(snapshot.devices, tuple(ordered[:count]), snapshot.holding), NOW)
        assert decision.starts[: len(first.starts)] == first.starts
        assert decision.waits[: len(first.waits)] == first.waits


@property_test
@given(snapshots())
def test_the_order_of_the_queue_as_given_does_not_matter(snapshot: Snapshot) -> None:
    turned = Snapshot(snapshot.devices, tuple(reversed(snapshot.waiting)), snapshot.holding)
    assert plan(turned, NOW) == plan(snapshot, NOW)
