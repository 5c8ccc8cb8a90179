"""The command chat: what it asks, what it prints, and what becomes of its job."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job
from tests.support.terminal import Terminal
from tests.unit.ftctl.conftest import Run, Transcript

from finetuned.v1 import chat_service_pb2, job_pb2, job_service_pb2
from ftd.spec import DeviceKind
from ftd.validate import check
from ftd.wire import read_spec

CHAT = "job0000001"


@pytest.fixture
def trained(daemon: FakeDaemon) -> FakeDaemon:
    """A daemon with one job that has ended; the next one runs at once."""
    made = job("SUCCEEDED", step=10)
    daemon.jobs[made.id] = made
    daemon.watched[CHAT] = [job("QUEUED", id=CHAT), job("RUNNING", id=CHAT)]
    return daemon


@pytest.fixture
def piped(ftctl: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with lines on its standard input."""

    def run(text: str, *args: str) -> Transcript:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return ftctl(*args)

    return run


def asked(daemon: FakeDaemon) -> list[chat_service_pb2.GenerateRequest]:
    return [each for each in daemon.requests if isinstance(each, chat_service_pb2.GenerateRequest)]


def state(daemon: FakeDaemon, name: str = CHAT) -> str:
    return job_pb2.JobState.Name(daemon.jobs[name].state)


def test_each_line_is_a_turn_of_one_conversation_and_its_job_ends_with_it(trained: FakeDaemon, piped: Run) -> None:
    done = piped("hi\n\nand?\n", "chat", "support-v3@checkpoint-20", "--system", "Be kind.", "--temperature", "0.5")
    assert (done.code, done.out) == (0, "tuned heard 'hi' in turn 2\ntuned heard 'and?' in turn 4\n")

    turns = [(turn.role, turn.content) for turn in asked(trained)[1].messages]
    assert turns == [
        ("system", "Be kind."),
        ("user", "hi"),
        ("assistant", "tuned heard 'hi' in turn 2"),
        ("user", "and?"),
    ]
    assert {request.temperature for request in asked(trained)} == {0.5}
    assert not asked(trained)[0].HasField("seed")
    [made] = [each for each in trained.requests if isinstance(each, job_service_pb2.CreateJobRequest)]
    assert not check(read_spec(made.spec), DeviceKind.GPU)
    assert made.spec.training.WhichOneof("stage") == "chat"
    assert made.spec.training.model.checkpoint == "checkpoint-20"
    assert state(trained) == "JOB_STATE_CANCELLED"


def test_both_models_answer_and_the_tuned_one_goes_on(trained: FakeDaemon, piped: Run) -> None:
    done = piped("hi\nand?\n", "chat", "support-v3", "--vs", "base")
    assert done.out.splitlines()[:4] == ["base:", "base heard 'hi' in turn 1", "tuned:", "tuned heard 'hi' in turn 1"]
    assert asked(trained)[2].messages[1].content == "tuned heard 'hi' in turn 1"


def test_a_line_with_a_slash_is_a_command(trained: FakeDaemon, piped: Run) -> None:
    done = piped("hi\n/base\nhi\n/base\n/reset\nhi\n/bye\n/quit\nhi\n", "chat", "support-v3")
    assert done.out.splitlines() == [
        "tuned heard 'hi' in turn 1",
        "base heard 'hi' in turn 3",
        "tuned heard 'hi' in turn 1",
    ]
    assert "/bye is not known; /reset begins anew" in done.err


def test_a_chat_that_is_kept_runs_on_and_may_be_come_back_to(trained: FakeDaemon, piped: Run) -> None:
    done = piped("hi\n", "chat", "support-v3", "--keep")
    assert f"the chat goes on: ftctl chat {CHAT}" in done.err
    trained.jobs[CHAT].state = job_pb2.JOB_STATE_RUNNING
    trained.jobs[CHAT].resolved.chat.idle_seconds = 600

    assert piped("hi\n", "chat", CHAT).out == "tuned heard 'hi' in turn 1\n"
    assert state(trained) == "JOB_STATE_RUNNING"
    assert len(trained.jobs) == 2


def test_a_chat_that_cannot_be_is_refused_before_anything_is_asked(trained: FakeDaemon, piped: Run) -> None:
    trained.violations.append(job_service_pb2.Violation(field="model.from_job", description="is no model"))
    done = piped("hi\n", "chat", "support-v3")
    assert done.code == 1
    assert "model.from_job: is no model" in done.err
    assert not asked(trained)


def test_ctrl_c_ends_an_answer_and_then_leaves(trained: FakeDaemon, tmp_path: Path) -> None:
    trained.holds_answers = True
    environ = {"FTD_ADDRESS": trained.address, "HOME": str(tmp_path)}
    with Terminal("chat", "support-v3", environ=environ) as terminal:
        terminal.until(lambda lines: any(line.startswith(">") for line in lines))
        terminal.type("hi\n")
        terminal.until(lambda lines: "tuned heard" in "\n".join(lines))
        terminal.interrupt()
        terminal.until(lambda lines: "[ended]" in "\n".join(lines) and lines.count(">") == 1)
        terminal.interrupt()
        assert terminal.ended() == 0
    assert state(trained) == "JOB_STATE_CANCELLED"
