"""A rank's frame, in real processes: its last word, its exit code, its ear for the stop signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, metric_service_pb2
from fttrain.files import write_message
from fttrain.journal import JournalWriter

HEAD = """
import sys, time
from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import rank
from fttrain.failure import Refused
def body(bootstrap, report):
"""
FOOT = """
rank.run(body)
"""


@pytest.fixture
def message(tmp_path: Path) -> trainer_pb2.Bootstrap:
    (tmp_path / "attempts" / "3").mkdir(parents=True)
    return trainer_pb2.Bootstrap(protocol=1, job_id="job", attempt=3, run_directory=str(tmp_path))


def start(message: trainer_pb2.Bootstrap, *lines: str, rank: int = 0) -> subprocess.Popen[bytes]:
    """A rank whose body is these lines."""
    program = HEAD + "".join(f"    {line}\n" for line in lines) + FOOT
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"RANK": str(rank)},
    )
    assert process.stdin is not None
    process.stdin.write(message.SerializeToString())
    process.stdin.close()
    process.stdin = None
    return process


def run(message: trainer_pb2.Bootstrap, *lines: str, rank: int = 0) -> tuple[int, trainer_pb2.RankResult]:
    process = start(message, *lines, rank=rank)
    process.communicate(timeout=30)
    written = Path(message.run_directory) / "attempts" / "3" / f"rank-{rank}.json"
    return process.returncode, json_format.Parse(written.read_text(), trainer_pb2.RankResult())


def journal(message: trainer_pb2.Bootstrap) -> list[event_pb2.TrainingEvent]:
    content = (Path(message.run_directory) / "events.journal").read_bytes()
    return list(metric_service_pb2.StreamMetricsResponse.FromString(content).events)


def test_the_last_word_of_a_rank_that_completed(message: trainer_pb2.Bootstrap) -> None:
    code, said = run(
        message,
        "assert 'torch' not in sys.modules",
        "report.checkpoint(event_pb2.CheckpointSaved(step=4, name='checkpoint-4'))",
        "report.step(event_pb2.StepMetrics(step=5, peak_memory_bytes=7))",
        "return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)",
    )
    assert code == 0
    assert (said.rank, said.outcome) == (0, event_pb2.OUTCOME_COMPLETED)
    assert (said.checkpoint, said.peak_memory_bytes) == ("checkpoint-4", 7)
    assert said.time.seconds > 0
    assert [(event.attempt, event.WhichOneof("kind")) for event in journal(message)] == [(3, "checkpoint"), (3, "step")]


def test_only_rank_0_writes_the_journal(message: trainer_pb2.Bootstrap) -> None:
    code, said = run(
        message,
        "report.notice('nobody reads this')",
        "return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)",
        rank=1,
    )
    assert (code, said.rank) == (0, 1)
    assert not (Path(message.run_directory) / "events.journal").exists()


@pytest.mark.parametrize(
    ("line", "failure_class", "text"),
    [
        ("raise MemoryError", event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY, "MemoryError"),
        ("sys.exit(0)", event_pb2.FAILURE_CLASS_INTERNAL, "SystemExit: 0"),
        (
            "raise Refused(event_pb2.FAILURE_CLASS_DATA_INVALID, 'row 3 is empty', 'fill it')",
            event_pb2.FAILURE_CLASS_DATA_INVALID,
            "row 3 is empty",
        ),
    ],
)
def test_a_rank_that_fails_says_why(message: trainer_pb2.Bootstrap, line: str, failure_class: int, text: str) -> None:
    code, said = run(message, line)
    assert code == 1
    assert said.outcome == event_pb2.OUTCOME_FAILED
    assert (said.failure.failure_class, said.failure.message) == (failure_class, text)
    assert said.failure.advice


def test_a_journal_that_cannot_be_written_is_a_failure_and_no_silence(message: trainer_pb2.Bootstrap) -> None:
    (Path(message.run_directory) / "events.journal").mkdir()
    code, said = run(message, "return None")
    assert code == 1
    assert "IsADirectoryError" in said.failure.message


WAITS = (
    "report.notice('ready')",
    "while not rank.stops.asked: time.sleep(0.01)",
    "report.notice('save' if rank.stops.save else 'leave')",
    "return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)",
)


@pytest.mark.parametrize(("save", "told"), [(True, "save"), (False, "leave"), (None, "save")])
def test_a_signal_asks_to_stop_and_the_request_says_how(
    message: trainer_pb2.Bootstrap, save: bool | None, told: str
) -> None:
    process = start(message, *WAITS)
    events = Path(message.run_directory) / "events.journal"
    while not events.exists() or not events.stat().st_size:
        assert process.poll() is None
    if save is not None:
        write_message(Path(message.run_directory) / "attempts/3/stop.json", trainer_pb2.StopRequest(save=save))
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert [event.notice.text for event in journal(message)] == ["ready", told]


def test_a_request_from_before_the_rank_listened_is_heard(message: trainer_pb2.Bootstrap) -> None:
    write_message(Path(message.run_directory) / "attempts/3/stop.json", trainer_pb2.StopRequest(save=False))
    process = start(message, *WAITS)
    process.communicate(timeout=30)
    assert [event.notice.text for event in journal(message)] == ["ready", "leave"]


def test_the_journal_goes_on_where_an_earlier_attempt_ended(message: trainer_pb2.Bootstrap) -> None:
    with JournalWriter(Path(message.run_directory) / "events.journal") as earlier:
        earlier.append(event_pb2.TrainingEvent(attempt=2))
    run(message, *WAITS[:1], "return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)")
    assert [event.attempt for event in journal(message)] == [2, 3]
