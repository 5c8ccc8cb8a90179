"""Bells ring when a file grows, when somebody rings them, and once a second at the latest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ftd.doorbells import Bell, Doorbells


@pytest.fixture
async def doorbells() -> AsyncIterator[Doorbells]:
    bells = Doorbells()
    running = asyncio.create_task(bells.run())
    await asyncio.sleep(0)
    yield bells
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def rings(bell: Bell) -> bool:
    """Whether it rings by itself, not by the second."""
    begin = time.monotonic()
    await bell.wait()
    return time.monotonic() - begin < 0.8


async def test_rings_when_a_file_is_made_and_when_it_grows(doorbells: Doorbells, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with doorbells.bell(tmp_path) as one, doorbells.bell(tmp_path) as two:
        journal.touch()
        assert await rings(one)
        assert await rings(two)
        with journal.open("ab") as file:
            file.write(b"x")
        assert await rings(one)
        assert await rings(two)


async def test_a_ring_before_the_wait_is_not_lost(doorbells: Doorbells, tmp_path: Path) -> None:
    with doorbells.bell(tmp_path) as bell:
        doorbells.ring(tmp_path)
        doorbells.ring(tmp_path)
        assert await rings(bell)
        assert not await rings(bell)


async def test_others_are_not_woken(doorbells: Doorbells, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with doorbells.bell(tmp_path / "a") as bell, doorbells.bell(tmp_path / "b"):
        (tmp_path / "b" / "journal").write_bytes(b"x")
        assert not await rings(bell)


async def test_rings_once_a_second_without_a_watch(doorbells: Doorbells, tmp_path: Path) -> None:
    with doorbells.bell(tmp_path / "none") as bell:
        begin = time.monotonic()
        await bell.wait(10)
        assert 0.9 < time.monotonic() - begin < 5


async def test_goes_on_after_its_directory_was_deleted(doorbells: Doorbells, tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "run").mkdir()
        with doorbells.bell(tmp_path / "run") as bell:
            (tmp_path / "run" / "journal").write_bytes(b"x")
            assert await rings(bell)
            (tmp_path / "run" / "journal").unlink()
            (tmp_path / "run").rmdir()
            await asyncio.sleep(0.05)


async def test_watches_a_directory_again(doorbells: Doorbells, tmp_path: Path) -> None:
    for _ in range(3):
        with doorbells.bell(tmp_path) as bell:
            (tmp_path / "journal").write_bytes(b"x")
            assert await rings(bell)


async def test_a_bell_after_the_end_of_the_daemon_is_only_slow(tmp_path: Path) -> None:
    doorbells = Doorbells()
    running = asyncio.create_task(doorbells.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with doorbells.bell(tmp_path) as bell:
        await bell.wait(0.01)
