"""The table of measurements: what comes back after a restart, and that it cannot grow for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ftd import measured as module
from ftd.database import Database
from ftd.measured import RUNS_EACH, Measurement, Measurements, Subject
from ftd.store import MIGRATIONS


def run(shape: str = "s", peak: int = 5, model: str = "m") -> Measurement:
    return Measurement(Subject(model, "lora", shape), 10, peak, False, 0.5, 100.0, "H100", 7.0)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Measurements]:
    database = Database(root / "ftd.db", MIGRATIONS)
    await database.open()
    measurements = Measurements(database)
    await measurements.load()
    try:
        yield measurements
    finally:
        await database.close()


async def test_they_come_back_after_a_restart(tmp_path: Path) -> None:
    out_of_memory = Measurement(Subject("m", "lora", "t"), 1, 2, True, 0.0, 0.0, "", 1.0)
    async with opened(tmp_path) as measurements:
        await measurements.add(run())
        await measurements.add(out_of_memory)
        await measurements.add(run(model="other"))
        known = measurements.of("m", "lora")
    assert known == (run(), out_of_memory)
    async with opened(tmp_path) as measurements:
        assert measurements.of("m", "lora") == known
        assert measurements.of("m", "full") == ()


async def test_of_each_shape_only_the_newest_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as measurements:
        await measurements.add(run("rare"))
        for peak in range(RUNS_EACH + 3):
            await measurements.add(run("often", peak))
        known = measurements.of("m", "lora")
    assert [each.peak_bytes for each in known if each.subject.shape == "often"] == list(range(3, RUNS_EACH + 3))
    assert run("rare") in known
    async with opened(tmp_path) as measurements:
        assert measurements.of("m", "lora") == known


async def test_the_whole_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", 4)
    async with opened(tmp_path) as measurements:
        for number in range(6):
            await measurements.add(run(str(number)))
    async with opened(tmp_path) as measurements:
        assert [each.subject.shape for each in measurements.of("m", "lora")] == ["2", "3", "4", "5"]
