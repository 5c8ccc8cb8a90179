"""What a project has had: charged once with the end of an attempt, faded with time, kept over a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.jobs import fake_job
from tests.support.parts import HALF_LIFE, PREPARED, cpu, opened_database, opened_queue, submit

from ftd.ledger import Charge, Ledger, with_running
from ftd.moves import Ended, Placed
from ftd.records import Attempt, Outcome
from ftd.spec import DeviceKind, Resources, TrainingSpec
from ftsched.model import Ask, Device, Holding, Snapshot

GPU = Device("GPU-0", "host", "gpu", "H100", 0, 80, 0)


async def test_what_was_had_fades_and_survives(tmp_path: Path) -> None:
    async with opened_database(tmp_path) as database:
        ledger = Ledger(database, HALF_LIFE)
        await database.run(lambda connection: ledger.book(connection, Charge("nlp", 100.0, 1000.0)))
        await database.run(lambda connection: ledger.book(connection, Charge("nlp", 10.0, 1000.0 + HALF_LIFE)))
    async with opened_database(tmp_path) as database:
        ledger = Ledger(database, HALF_LIFE)
        assert await ledger.usage(1000.0 + HALF_LIFE) == {"nlp": pytest.approx(60.0)}
        assert await ledger.usage(1000.0 + 2 * HALF_LIFE) == {"nlp": pytest.approx(30.0)}
        # A clock that was set back takes nothing and gives nothing.
        assert await ledger.usage(0.0) == {"nlp": pytest.approx(60.0)}


async def test_a_charge_of_an_earlier_time_does_not_turn_the_clock_back(tmp_path: Path) -> None:
    async with opened_database(tmp_path) as database:
        ledger = Ledger(database, HALF_LIFE)
        for time in (1000.0, 500.0):
            await database.run(lambda connection, time=time: ledger.book(connection, Charge("nlp", 10.0, time)))  # type: ignore[misc]
        assert await ledger.usage(1000.0) == {"nlp": pytest.approx(20.0)}


def test_an_attempt_is_charged_for_its_part_of_a_shared_device(tmp_path: Path) -> None:
    training = TrainingSpec(resources=Resources(device=DeviceKind.GPU, gpus=1))
    open_ = fake_job(tmp_path, {}, resolved=training, attempts=(Attempt(1, ("GPU-0",), 10.0, reserved_bytes=20),))
    closed = replace(open_, attempts=(replace(open_.attempts[0], end_time=110.0),))
    ledger = Ledger(None, HALF_LIFE)  # type: ignore[arg-type]
    ledger.see((GPU,))
    assert ledger.charge(open_, closed) == Charge("default", 25.0, 110.0)
    assert ledger.charge(open_, open_) is None
    assert ledger.charge(closed, closed) is None
    ledger.see((replace(GPU, max_jobs=1),))
    assert ledger.charge(open_, closed) == Charge("default", 100.0, 110.0)
    backwards = replace(open_, attempts=(replace(open_.attempts[0], end_time=5.0),))
    assert ledger.charge(open_, backwards) == Charge("default", 0.0, 5.0)


async def test_the_end_of_an_attempt_is_booked_with_it(tmp_path: Path) -> None:
    now = 100.0
    async with opened_queue(tmp_path, clock=lambda: now) as queue:
        job = await submit(queue)
        await queue.apply(job.id, PREPARED)
        await queue.apply(job.id, Placed(("cpu",), 12))
        now = 150.0
        await queue.apply(job.id, Ended(Outcome.COMPLETED))
    async with opened_database(tmp_path) as database:
        assert await Ledger(database, HALF_LIFE).usage(150.0) == {"default": pytest.approx(50.0)}


def test_what_runs_is_charged_what_it_had_and_will_need() -> None:
    holding = Holding("a", ("cpu",), Ask("cpu", 1, 100), project="nlp", start_time=10.0, run_seconds=30.0)
    snapshot = Snapshot((cpu(),), holding=(holding,))
    assert with_running({"nlp": 5.0, "cv": 1.0}, snapshot, 30.0) == {"nlp": 55.0, "cv": 1.0}
