"""The exit codes that scripts rely on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, log_lines, training_events
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_pb2
from ftclient import errors
from ftctl import exits

SPEC = "model: {path: /m}\ndata: {train: [{path: /a.jsonl}]}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound(""), 1),
        (errors.InvalidSpec(""), 1),
        (errors.SpecFileError("f", []), 1),
        (errors.AuthError(""), 4),
        (errors.Unavailable({}), 5),
        (errors.AlreadyExists(""), 6),
        (errors.WrongState(""), 6),
        (errors.LimitReached(""), 6),
        (errors.WaitTimeout("j", 1.0), 101),
    ],
)
def test_of_each_error(error: errors.FtError, code: int) -> None:
    assert exits.code_of(error) == code


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 100), ("CANCELLED", 103)])
@pytest.mark.parametrize("command", [["wait"], ["watch", "--exit-status"]])
def test_of_a_job_that_is_waited_for(daemon: FakeDaemon, ftctl: Run, command: list[str], state: str, code: int) -> None:
    daemon.jobs["k7m2p9x4qd"] = job(state)
    assert ftctl(*command, "k7m2").code == code


def test_watch_alone_does_not_tell(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("FAILED")
    assert ftctl("watch", "k7m2").code == 0


@pytest.mark.parametrize("option", ["--wait", "--follow"])
@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("FAILED", 100), ("CANCELLED", 103)])
def test_of_submit(daemon: FakeDaemon, ftctl: Run, option: str, state: str, code: int) -> None:
    class Quick(FakeDaemon):
        def CreateJob(self, request: object, context: object) -> object:  # noqa: N802
            answer = super().CreateJob(request, context)
            answer.job.state = job_pb2.JobState.Value(f"JOB_STATE_{state}")
            self.jobs[answer.job.id] = answer.job
            return answer

    Path("job.yaml").write_text(SPEC)
    daemon.stop()
    with Quick(daemon.socket):
        assert ftctl("submit", "-f", "job.yaml", option).code == code


def test_of_a_wait_that_takes_too_long(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("RUNNING")
    done = ftctl("wait", "k7m2", "--timeout", "0.2s")
    assert done.code == 101
    assert "job k7m2p9x4qd is not there yet after 0.2 s" in done.err
    assert "the job goes on" in done.err


@pytest.mark.parametrize(
    ("condition", "code"),
    [("step=4", 0), ("state=running", 0), ("state=starting", 0), ("step=5", 101), ("terminal", 101)],
)
def test_wait_for_a_condition(daemon: FakeDaemon, ftctl: Run, condition: str, code: int) -> None:
    running = job("RUNNING", step=4)
    running.transitions.add(to_state=job_pb2.JOB_STATE_STARTING)
    daemon.jobs["k7m2p9x4qd"] = running
    assert ftctl("wait", "k7m2", "--for", condition, "--timeout", "0.2").code == code


@pytest.mark.parametrize(
    "args",
    [
        ["wait", "x", "--for", "luck"],
        ["wait", "x", "--for", "state=asleep"],
        ["wait", "x", "--timeout", "soon"],
        ["get", "--state", "asleep"],
        ["label", "x", "team"],
        ["events", "-o", "csv"],
        ["gpus", "-o", "csv"],
        ["metrics", "x", "-o", "yaml"],
        ["bogus"],
        ["cancel"],
    ],
)
def test_of_a_command_that_cannot_be_meant(ftctl: Run, args: list[str]) -> None:
    done = ftctl(*args)
    assert done.code == 2
    assert "Error: " in done.err
    assert not done.out


def test_a_spec_from_a_pipe(daemon: FakeDaemon, ftctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(SPEC))
    assert ftctl("submit", "-f", "-", "--set", "schedule.max_steps=5", "--hold").code == 0
    (made,) = daemon.jobs.values()
    assert made.spec.training.schedule.max_steps == 5
    assert made.spec.hold


def test_debug_shows_the_key_and_the_trace(daemon: FakeDaemon, ftctl: Run) -> None:
    Path("job.yaml").write_text(SPEC)
    ftctl("submit", "-f", "job.yaml", "--request-id", "run-17")
    done = ftctl("--debug", "submit", "-f", "job.yaml", "--request-id", "run-17", "--set", "seed=1")
    assert "id: request_id run-17" in done.err
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    "command", [["logs", "-f"], ["metrics", "-f"], ["watch"], ["wait"]], ids=lambda command: command[0]
)
def test_ctrl_c_leaves_the_job_alone(daemon: FakeDaemon, command: list[str]) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("RUNNING")
    daemon.events["k7m2p9x4qd"] = training_events(3)
    daemon.log_lines["k7m2p9x4qd"] = log_lines(3)
    before = len(daemon.requests)
    with start(daemon, *command, "k7m2") as process:
        streams = {"StreamLogsRequest", "StreamMetricsRequest", "WatchJobRequest"}
        until(lambda: streams & {type(request).__name__ for request in daemon.requests[before:]})
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    assert "re-attach: ftctl watch k7m2" in err
    assert "cancel:    ftctl cancel k7m2" in err
    assert daemon.jobs["k7m2p9x4qd"].state == job_pb2.JOB_STATE_RUNNING


def test_a_reader_that_has_enough_is_no_error(daemon: FakeDaemon) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("SUCCEEDED")
    daemon.log_lines["k7m2p9x4qd"] = log_lines(20_000)
    daemon.records_per_message = 256
    with start(daemon, "logs", "k7m2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "line 1\n"
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=20) == 0


def start(daemon: FakeDaemon, *args: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("ftctl"))
    environment = {**os.environ, "FTD_ADDRESS": daemon.address}
    return subprocess.Popen(
        [program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
