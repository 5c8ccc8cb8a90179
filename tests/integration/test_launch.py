"""Attempts as the daemon starts, follows, stops and finds them: real keepers, real processes, no daemon."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.attempts import FAKE, eventually
from tests.support.jobs import JOB_ID, fake_job

from ftd.bootstrap import Exit, LaunchSettings, mark
from ftd.doorbells import Doorbells
from ftd.job import Job
from ftd.launch import ExecLauncher, Handle, KeeperHandle
from ftd.process import Identity, end_marked, identify
from ftd.records import FailureClass, JobState, Outcome, Phase, Progress, Reason, ReasonCode, Transition
from ftd.rundir import RunDirectories, RunDirectory
from ftd.supervise import follow, progress_of

ENDLESS = {"steps": 1_000_000, "step_seconds": 0.01}
FAKE_COMMAND = (sys.executable, str(FAKE))


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[ExecLauncher]:
    settings = LaunchSettings(tmp_path, FAKE_COMMAND, FAKE_COMMAND, False, False, 5.0, 5.0, 1, "0.1.0")
    yield ExecLauncher(RunDirectories(tmp_path / "runs"), settings)
    for attempt in range(3):
        assert end_marked(mark(JOB_ID, attempt), 10)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectories(tmp_path / "runs").get(JOB_ID)


async def until_step(run: RunDirectory, step: int) -> None:
    while (await progress_of(run)).step < step:
        await asyncio.sleep(0.01)


async def started(launcher: ExecLauncher, run: RunDirectory, job: Job, step: int = 3) -> Handle:
    handle = await launcher.start(job, 1, ("cpu",))
    await until_step(run, step)
    return handle


async def test_preparation_and_training(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    job = fake_job(tmp_path, {"checkpoint_every": 5})
    prepared = await (await launcher.start(job, 0, ("cpu",))).wait()
    assert (prepared.outcome, prepared.prepared_directory) == (Outcome.COMPLETED, str(tmp_path / "prepared" / "fake"))
    assert prepared.report is not None
    assert prepared.report.train.rows == 64
    handle = await launcher.start(replace(job, prepared_directory=prepared.prepared_directory), 1, ("cpu",))
    ended = await handle.wait()
    assert (ended.outcome, ended.failure, ended.checkpoint) == (Outcome.COMPLETED, None, "checkpoint-5")
    assert await handle.wait() == ended
    await handle.stop(save=True)
    assert [artifact.name for artifact in run.artifacts()] == ["output", "checkpoint-5"]


async def test_attempt_goes_on_from_the_newest_complete_checkpoint(
    launcher: ExecLauncher, tmp_path: Path, run: RunDirectory
) -> None:
    job = fake_job(tmp_path, {"steps": 8, "fail_at": 7, "checkpoint_every": 2})
    await (await launcher.start(job, 1, ("cpu",))).wait()
    (run.path / "checkpoints" / "checkpoint-6" / "state.json").write_text("{}")
    job = fake_job(tmp_path, {"steps": 8})
    await (await launcher.start(job, 2, ("cpu",))).wait()
    assert json.loads((run.attempt(2) / "bootstrap.json").read_text())["resumeFrom"] == "checkpoint-4"


async def test_stop(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    handle = await started(launcher, run, fake_job(tmp_path, ENDLESS))
    assert all(Path(f"/proc/{pid}").exists() for pid in handle.pids)
    assert len(handle.pids) == 2
    await handle.stop(save=True)
    ended = await handle.wait()
    assert ended.outcome is Outcome.STOPPED
    assert ended.checkpoint == f"checkpoint-{(await progress_of(run)).step}"
    assert run.latest_checkpoint() == ended.checkpoint


@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)])
async def test_kill_anything(
    launcher: ExecLauncher, tmp_path: Path, run: RunDirectory, victims: tuple[int, ...]
) -> None:
    """Also with a child in a session of its own, which the keeper can no longer end when it was killed itself."""
    handle = await started(launcher, run, fake_job(tmp_path, {**ENDLESS, "stubborn_children": True}))
    pids = handle.pids
    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)
    ended = await handle.wait()
    assert ended.outcome is Outcome.FAILED
    assert ended.failure is not None
    expected = FailureClass.WORKER_KILLED if victims == (1,) else FailureClass.WORKER_LOST
    assert ended.failure.failure_class is expected
    assert end_marked(mark(run.path.name, 1), 0)


async def test_keeper_holds_nothing_of_the_daemon(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    handle = await started(launcher, run, fake_job(tmp_path, ENDLESS))
    keeper, rank = handle.pids
    assert os.getsid(keeper) == keeper
    for pid in (keeper, rank):
        held = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
        assert str(tmp_path) not in held
        allowed = ("/memfd:", "pipe:", "socket:", "anon_inode:", str(run.path), "/dev/null")
        assert [each for each in held if not each.startswith(allowed)] == []
        assert not [each for each in held if each.startswith("socket:")] or pid == keeper
        environment = dict(
            each.split(b"=", 1) for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if each
        )
        assert environment[b"HOME"] == os.fsencode(run.path)
        assert b"PYTEST_CURRENT_TEST" not in environment
    os.close(descriptor)


async def test_reattach(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    job = fake_job(tmp_path, ENDLESS)
    assert await launcher.reattach(job, 1) is None
    first = await started(launcher, run, job)
    again = await launcher.reattach(job, 1)
    assert isinstance(again, KeeperHandle)
    assert again.pids == first.pids
    await again.stop(save=False)
    assert await again.wait() == await first.wait() == await launcher.reattach(job, 1)


async def test_reattach_to_a_keeper_that_is_gone(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    job = fake_job(tmp_path, {**ENDLESS, "stubborn_children": True})
    handle = await started(launcher, run, job)
    keeper = handle.pids[0]
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)
    ended = await launcher.reattach(job, 1)
    assert isinstance(ended, Exit)
    assert ended.failure is not None
    assert ended.failure.message == "the keeper of attempt 1 is gone and left no word; what it had started was ended"
    assert end_marked(mark(job.id, 1), 0)
    await handle.wait()


async def test_a_keeper_that_is_not_on_record_is_ended(
    launcher: ExecLauncher, tmp_path: Path, run: RunDirectory
) -> None:
    """The daemon died right after the start."""
    job = fake_job(tmp_path, ENDLESS)
    handle = await started(launcher, run, job)
    (run.attempt(1) / "keeper.json").unlink()
    assert await launcher.reattach(job, 1) is None
    assert end_marked(mark(job.id, 1), 0)
    await handle.wait()


async def test_an_earlier_preparation_is_not_taken_for_this_one(launcher: ExecLauncher, tmp_path: Path) -> None:
    job = fake_job(tmp_path, {"prepare": {"fail_at": 1}})
    first = await (await launcher.start(job, 0, ("cpu",))).wait()
    assert await launcher.reattach(job, 0) == first
    again = Transition(time.time(), JobState.PREPARING, JobState.PREPARING, "daemon", Reason(ReasonCode.RETRY, "again"))
    assert await launcher.reattach(replace(job, transitions=(again,)), 0) is None


async def test_another_process_with_the_keepers_pid_is_left_alone(
    launcher: ExecLauncher, tmp_path: Path, run: RunDirectory
) -> None:
    job = fake_job(tmp_path, {})
    await (await launcher.start(job, 1, ("cpu",))).wait()
    (run.attempt(1) / "exit.json").unlink()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    record = json.loads((run.attempt(1) / "keeper.json").read_text())
    record["keeper"]["pid"] = stranger.pid
    (run.attempt(1) / "keeper.json").write_text(json.dumps(record))
    ended = await launcher.reattach(job, 1)
    assert isinstance(ended, Exit)
    assert ended.outcome is Outcome.FAILED
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


async def test_the_training_outlives_the_daemon(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    """A process that starts an attempt and is killed; another one takes over."""
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from ftd.bootstrap import LaunchSettings
from ftd.launch import ExecLauncher
from ftd.rundir import RunDirectories
from tests.support.jobs import fake_job
root, command = Path(sys.argv[1]), (sys.executable, sys.argv[2])
settings = LaunchSettings(root, command, command, False, False, 5.0, 5.0, 1, "0.1.0")
job = fake_job(root, {"steps": 100, "step_seconds": 0.01}, id=sys.argv[3])
asyncio.run(ExecLauncher(RunDirectories(root / "runs"), settings).start(job, 1, ("cpu",)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    daemon = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(FAKE), JOB_ID], cwd=root, check=False)
    assert daemon.returncode == -9
    job = fake_job(tmp_path, {"steps": 100, "step_seconds": 0.01})
    eventually((run.attempt(1) / "keeper.json").exists)
    handle = await launcher.reattach(job, 1)
    assert isinstance(handle, KeeperHandle)
    assert (await handle.wait()).outcome is Outcome.COMPLETED
    assert (await progress_of(run)).step == 100


async def test_follow(launcher: ExecLauncher, tmp_path: Path, run: RunDirectory) -> None:
    """Every fold is seen in order, the first word once, and all of it before the end."""
    seen: list[Progress] = []
    words: list[int] = []

    async def first_word() -> None:
        words.append(len(seen))

    doorbells = Doorbells()
    ringing = asyncio.create_task(doorbells.run())
    job = fake_job(tmp_path, {"steps": 30, "step_seconds": 0.03})
    handle = await launcher.start(job, 1, ("cpu",))
    ended = await follow(run, 1, handle, doorbells, on_progress=seen.append, on_started=first_word)
    ringing.cancel()
    assert ended.outcome is Outcome.COMPLETED
    assert words == [1]
    steps = [progress.step for progress in seen]
    assert steps == sorted(steps)
    # Rung awake, not once a second.
    assert len(set(steps)) > 6
    middle = next(progress for progress in seen if progress.step >= 15)
    assert middle.phase is Phase.TRAINING
    assert middle.eta_seconds is not None
    assert middle.eta_seconds >= (30 - middle.step) * 0.03
    assert (seen[-1].step, seen[-1].total_steps, seen[-1].phase) == (30, 30, None)
    assert seen[-1] == await progress_of(run)


async def test_follow_says_nothing_for_a_trainer_that_said_nothing(
    launcher: ExecLauncher, tmp_path: Path, run: RunDirectory
) -> None:
    async def first_word() -> None:
        pytest.fail("it never spoke")

    handle = await launcher.start(fake_job(tmp_path, ENDLESS), 1, ("cpu",))
    os.kill(handle.pids[0], signal.SIGKILL)
    ended = await follow(run, 1, handle, Doorbells(), on_progress=lambda _: None, on_started=first_word)
    assert ended.outcome is Outcome.FAILED


def test_identity() -> None:
    me = identify(os.getpid())
    assert me is not None
    assert identify(os.getpid()) == me
    assert identify(2**22 + 1) is None
    assert Identity(me.pid, me.start_ticks + 1, me.boot_id) != me
