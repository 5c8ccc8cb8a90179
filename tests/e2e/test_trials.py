"""Real trials: what they measure, what they say, and that the training after one is the training without one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import events, losses, of_kind, train

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import trial
from fttrain.journal import JournalWriter
from fttrain.report import Report
from fttrain.rows import Rows, lengths

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CHANGES = (
    "schedule { max_steps: 2 } optimizer { learning_rate: 5e-4 } batch { micro_batch: 2 global_batch: 8 } "
    "checkpoints { cadence: CADENCE_STEPS every_steps: 1 keep: 3 } "
    "evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 2 }"
)


def tried(message: trainer_pb2.Bootstrap) -> tuple[trainer_pb2.RankResult, Report]:
    """The trial of a training, in this process."""
    from fttrain.recipe import train as body

    message.probe = True
    with JournalWriter(Path(message.run_directory) / "events.journal") as journal:
        report = Report(journal, message.attempt, trial=True)
        return body(message, report), report


@pytest.mark.parametrize(("stage", "changes"), [("sft", ""), ("dpo", "evaluation { cadence: CADENCE_NEVER }")])
def test_a_trial_measures_and_leaves_nothing(
    stage: str, changes: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    spec = support.resolved_spec(smol_nano, stage, changes=CHANGES + changes)
    run = tmp_path / "tried"
    result, report = tried(support.bootstrap(run, spec, rows[stage]))
    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert report.peak_memory_bytes > 100 * 2**20
    assert report.step_seconds > 0
    assert not (run / "output").exists()
    assert not list((run / "checkpoints").glob("*"))
    # Its updates are nobody's: clients see phases, and two notices.
    assert {event.WhichOneof("kind") for event in events(run)} == {"phase", "notice"}
    first, last = (notice.text for notice in of_kind(events(run), "notice"))
    assert first == "trying out 3 updates on the longest rows, to measure memory and time"
    assert last.startswith("the trial needed ")
    phases = [phase.phase for phase in of_kind(events(run), "phase")]
    assert (event_pb2.PHASE_EVALUATING in phases) is (stage == "sft")

    train(support.bootstrap(run, spec, rows[stage], attempt=2))
    train(support.bootstrap(tmp_path / "untried", spec, rows[stage]))
    assert losses(run) == losses(tmp_path / "untried")


def test_a_trial_keeps_the_checkpoints_there_are(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, changes=CHANGES)
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    there = sorted((tmp_path / "checkpoints").iterdir())
    tried(support.bootstrap(tmp_path, spec, rows["sft"], attempt=2))
    assert sorted((tmp_path / "checkpoints").iterdir()) == there


def test_the_longest_rows_fill_every_batch(smol_nano: Path, rows: dict[str, Path]) -> None:
    spec = support.resolved_spec(smol_nano, changes=CHANGES)
    loaded = Rows.load(rows["sft"])
    known = sorted(map(len, loaded.train["input_ids"]), reverse=True)
    short = trial.longest(loaded, spec, 1)
    assert short.eval is not None
    assert lengths(short.train).tolist() == known[:2] * trial.STEPS * trial.PARTS
    assert len(short.eval) == 2
    # More than there are: they are taken again.
    spec.batch.micro_batch = spec.batch.global_batch = 20
    assert sorted(set(lengths(trial.longest(loaded, spec, 1).train).tolist()), reverse=True) == sorted(
        set(known), reverse=True
    )
    assert len(trial.longest(loaded, spec, 1).train) == 20 * trial.STEPS


def test_a_pair_is_as_long_as_its_longer_sequence(rows: dict[str, Path]) -> None:
    loaded = Rows.load(rows["dpo"]).train
    assert lengths(loaded).tolist() == [
        len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in loaded
    ]


def test_an_update_of_the_training_takes_longer_than_one_of_the_trial(smol_nano: Path, rows: dict[str, Path]) -> None:
    """Four parts instead of two, each as long as its two rows, or with padding as the longer of them."""
    spec = support.resolved_spec(smol_nano, changes=CHANGES)
    loaded = Rows.load(rows["sft"])
    known = [len(ids) for ids in loaded.train["input_ids"]]
    assert trial.share(loaded, spec, 1) == pytest.approx(2 * sum(known) / 8 / max(known))
    spec.compute.padding_free = False
    usual = sum(max(known[i : i + 2]) for i in range(0, 8, 2)) / 4
    assert trial.share(loaded, spec, 1) == pytest.approx(2 * usual / max(known))
