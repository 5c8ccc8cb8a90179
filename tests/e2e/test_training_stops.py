"""Real trainings that are stopped, killed and gone on with, and trainings of several ranks: no step is lost or changed.

What is about signals and processes starts real ranks; the rest runs their body in this process.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import losses, steps, train

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import manifest
from fttrain.failure import Refused
from fttrain.files import write_message
from fttrain.journal import JournalWriter
from fttrain.rank import stops
from fttrain.report import Report

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


SAVING = "checkpoints { cadence: CADENCE_STEPS every_steps: 3 keep: 1 } optimizer { learning_rate: 5e-4 } "
EACH_EPOCH = "checkpoints { cadence: CADENCE_EPOCH keep: 1 } optimizer { learning_rate: 5e-4 }"


class StopsAfter(Report):
    """Asks this process to stop, as the keeper would, as soon as a step is told: the next step is the last."""

    def __init__(self, journal: JournalWriter, attempt: int, step: int, request: Path) -> None:
        super().__init__(journal, attempt)
        self._last = step
        self._request = request

    def step(self, metrics: event_pb2.StepMetrics) -> None:
        super().step(metrics)
        if metrics.step == self._last:
            write_message(self._request, trainer_pb2.StopRequest(save=False))
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ("method", "changes", "at"),
    [("lora", SAVING + "lora { dropout: 0.2 }", 3), ("full", EACH_EPOCH, 4)],
    ids=["lora-within-an-epoch", "full-between-epochs"],
)
def test_a_resumed_run_has_the_losses_of_one_never_stopped(
    method: str,
    changes: str,
    at: int,
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Once from the middle of an epoch, where dropout makes the random state count, and once from an epoch's end."""
    from fttrain.recipe import train as body

    spec = support.resolved_spec(smol_nano, "sft", method, changes)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(support.bootstrap(whole, spec, rows["sft"]))

    first = support.bootstrap(cut, spec, rows["sft"])
    with JournalWriter(cut / "events.journal") as journal:
        result = body(first, StopsAfter(journal, 1, step=4, request=tmp_path / "stop.json"))
    assert result.outcome == event_pb2.OUTCOME_STOPPED
    assert losses(cut) == pytest.approx(losses(whole)[:5], rel=1e-6)
    assert [path.name for path in (cut / "checkpoints").iterdir()] == [f"checkpoint-{at}"]

    stops.watch(tmp_path / "none.json")
    train(support.bootstrap(cut, spec, rows["sft"], attempt=2, resume_from=f"checkpoint-{at}"))
    again = steps(cut)[5:]
    assert [step.step for step in again] == list(range(at + 1, 9))
    assert [step.loss for step in again] == pytest.approx(losses(whole)[at:], rel=1e-6)
    assert again[-1].tokens == steps(whole)[-1].tokens
    # keep: 1, and the last step is always saved with a cadence.
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["checkpoint-8"]


def test_a_signalled_rank_saves_and_the_next_attempt_goes_on(
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    changes = "schedule { max_steps: 400 name: 'constant' } optimizer { learning_rate: 1e-4 }"
    spec = support.resolved_spec(smol_nano, changes=changes)
    message = support.bootstrap(tmp_path, spec, rows["sft"])
    rank = support.start_rank(message)
    _wait_for_steps(tmp_path, 2)
    write_message(tmp_path / "attempts" / "1" / "stop.json", trainer_pb2.StopRequest(save=True))
    rank.send_signal(signal.SIGUSR1)
    _, log = rank.communicate(timeout=60)

    assert rank.returncode == 0, log.decode()
    assert b"Warning" not in log
    said = support.result(message)
    last = steps(tmp_path)[-1].step
    assert (said.outcome, said.checkpoint) == (event_pb2.OUTCOME_STOPPED, f"checkpoint-{last}")
    assert said.peak_memory_bytes >= steps(tmp_path)[-1].peak_memory_bytes
    assert manifest.verify(tmp_path / "checkpoints" / said.checkpoint).step == last
    assert not (tmp_path / "output").exists()


def _wait_for_steps(run: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while not (run / "events.journal").exists() or len(steps(run)) < count:
        assert time.monotonic() < deadline, "no steps were told"
        time.sleep(0.05)


def test_a_stop_before_the_first_step_trains_nothing(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    write_message(tmp_path / "stop.json", trainer_pb2.StopRequest(save=False))
    stops.watch(tmp_path / "stop.json")
    result = train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano), rows["sft"]))
    assert result.outcome == event_pb2.OUTCOME_STOPPED
    assert steps(tmp_path) == []


def test_an_attempt_that_died_before_its_output_trains_no_step_more(
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The last step, 3, lies in the middle of an epoch: the loop alone would go on to 4."""
    from safetensors.torch import load_file

    spec = support.resolved_spec(smol_nano, changes=SAVING + "schedule { max_steps: 3 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    trained = load_file(tmp_path / "output" / "adapter_model.safetensors")

    # The first output was sealed, but nobody heard of it: it is made again.
    again = support.bootstrap(tmp_path, spec, rows["sft"], attempt=2, resume_from="checkpoint-3")
    assert train(again).outcome == event_pb2.OUTCOME_COMPLETED
    assert [step.step for step in steps(tmp_path)] == [1, 2, 3]
    remade = load_file(tmp_path / "output" / "adapter_model.safetensors")
    assert all(weight.equal(remade[name]) for name, weight in trained.items())


def test_a_checkpoint_that_was_cut_is_not_resumed(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, changes=SAVING + "schedule { max_steps: 3 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    optimizer = tmp_path / "checkpoints" / "checkpoint-3" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])

    again = support.bootstrap(tmp_path, spec, rows["sft"], attempt=2, resume_from="checkpoint-3")
    with pytest.raises(Refused, match=r"checkpoint-3: optimizer.pt is not what was written"):
        train(again)


def test_two_ranks_have_the_losses_of_one(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    changes = (
        "schedule { max_steps: 3 } optimizer { learning_rate: 5e-4 } checkpoints { cadence: CADENCE_EPOCH keep: 2 }"
    )
    spec = support.resolved_spec(smol_nano, changes=changes)
    one, two = tmp_path / "one", tmp_path / "two"
    train(support.bootstrap(one, spec, rows["sft"]))

    message = support.bootstrap(two, spec, rows["sft"], ranks=2)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks = [support.start_rank(message, RANK=str(r), LOCAL_RANK=str(r), **meeting) for r in (0, 1)]
    logs = [rank.communicate(timeout=120)[1].decode() for rank in ranks]

    assert [rank.returncode for rank in ranks] == [0, 0], logs
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert steps(two)[-1].tokens == steps(one)[-1].tokens
    assert support.result(message, rank=0).checkpoint == "checkpoint-3"
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {
        path.name for path in (two / "checkpoints/checkpoint-3").iterdir()
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StopsEvaluating(Report):
    """Asks this process to stop as soon as an evaluation has said a word."""

    def __init__(self, journal: JournalWriter, attempt: int, request: Path) -> None:
        super().__init__(journal, attempt)
        self._request = request

    def phase(self, phase: event_pb2.Phase.ValueType, fraction: float | None = None) -> None:
        super().phase(phase, fraction)
        if phase == event_pb2.PHASE_EVALUATING and not stops.asked:
            write_message(self._request, trainer_pb2.StopRequest(save=True))
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize("last", [2, 4], ids=["after the last step", "before it"])
def test_a_stop_is_heard_between_the_batches_of_an_evaluation(
    last: int, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    """The step before it is done and saved; what follows is what an undisturbed run does."""
    from fttrain.recipe import train as body

    changes = (
        f"schedule {{ max_steps: {last} }} optimizer {{ learning_rate: 5e-4 }} "
        "evaluation { cadence: CADENCE_STEPS every_steps: 2 micro_batch: 1 } "
    )
    spec = support.resolved_spec(smol_nano, changes=changes)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(support.bootstrap(whole, spec, rows["sft"]))
    message = support.bootstrap(cut, spec, rows["sft"])
    stops.watch(cut / "attempts" / "1" / "stop.json")
    with JournalWriter(cut / "events.journal") as journal:
        result = body(message, StopsEvaluating(journal, 1, cut / "attempts" / "1" / "stop.json"))
    assert result.outcome == event_pb2.OUTCOME_STOPPED
    assert not list(support.of_kind(support.events(cut), "evaluation"))
    assert manifest.verify(cut / "checkpoints" / "checkpoint-2").step == 2
    assert not (cut / "output").exists()

    stops.watch(tmp_path / "none.json")
    train(support.bootstrap(cut, spec, rows["sft"], attempt=2, resume_from="checkpoint-2"))
    assert [step.step for step in steps(cut)] == list(range(1, last + 1))
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-6)
