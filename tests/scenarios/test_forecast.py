"""When a waiting job will start, as far as anybody can know."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.fleet import NOW, gpu, holds, job

from ftsched.forecast import LONGER, SHORTER, forecast
from ftsched.model import Holding, Policy, Snapshot, Waiting

HOUR = 3600.0


def runs(held: Holding, hours: float | None) -> Holding:
    return replace(held, run_seconds=None if hours is None else hours * HOUR)


def lasts(waiting: Waiting, hours: float | None) -> Waiting:
    return replace(waiting, run_seconds=None if hours is None else hours * HOUR)


def hours_until(snapshot: Snapshot) -> dict[str, float]:
    """The expected start of each job, in hours from now."""
    return {name: (each.expected - NOW) / HOUR for name, each in forecast(snapshot, NOW).items()}


def test_a_job_that_fits_starts_now() -> None:
    found = forecast(Snapshot((gpu(0),), (lasts(job("a", 30), 1),)), NOW)["a"]
    assert (found.earliest, found.expected, found.latest) == (NOW, NOW, NOW)


def test_a_job_starts_when_the_one_before_it_is_expected_to_end_within_a_range() -> None:
    world = Snapshot((gpu(0),), (lasts(job("a", 60), 1),), (runs(holds("b", 0, size=60), 6),))
    found = forecast(world, NOW)["a"]
    assert (found.expected - NOW) / HOUR == pytest.approx(6)
    assert (found.earliest - NOW) / HOUR == pytest.approx(6 * SHORTER)
    assert (found.latest - NOW) / HOUR == pytest.approx(6 * LONGER)


def test_jobs_behind_each_other_add_up() -> None:
    waiting = (lasts(job("first", 60, age=9), 1), lasts(job("second", 60), 2), lasts(job("third", 60), 3))
    world = Snapshot((gpu(0),), waiting, (runs(holds("b", 0, size=60), 6),))
    assert hours_until(world) == pytest.approx({"first": 6, "second": 7, "third": 9})


def test_what_a_job_uses_is_free_when_it_has_ended() -> None:
    world = Snapshot((gpu(0, used=70),), (lasts(job("a", 60), 1),), (runs(holds("b", 0, size=60, used={0: 70}), 2),))
    assert hours_until(world) == pytest.approx({"a": 2})


def test_a_gang_starts_when_the_last_of_its_devices_is_free() -> None:
    devices = (gpu(0), gpu(1))
    holding = (runs(holds("b", 0, size=60), 2), runs(holds("c", 1, size=60), 5))
    assert hours_until(Snapshot(devices, (lasts(job("a", 60, devices=2), 1),), holding)) == pytest.approx({"a": 5})


def test_nobody_knows_when_a_job_without_an_estimate_ends() -> None:
    world = Snapshot((gpu(0),), (lasts(job("a", 60), 1),), (runs(holds("b", 0, size=60), None),))
    assert hours_until(world) == {}


def test_nobody_knows_when_a_process_that_is_not_ours_ends() -> None:
    world = Snapshot((gpu(0, foreign=[(4711, "python", 60)]),), (lasts(job("a", 60), 1),))
    assert hours_until(world) == {}


def test_a_job_that_others_make_room_for_starts_soon() -> None:
    urgent = replace(lasts(job("a", 60, priority=5), 1), project="p")
    held = replace(runs(holds("b", 0, size=60), 50), start_time=NOW - HOUR)
    world = Snapshot((gpu(0),), (urgent,), (held,), policy=Policy(preempt="priority"))
    assert hours_until(world)["a"] < 0.1
