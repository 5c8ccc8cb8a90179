"""Real trainings that begin with what others left: adapters trained on and merged, references, checkpoints, early ends.

All run in this process; what the daemon makes of a chain is in test_chains.py.
"""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

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

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHORT = "schedule { max_steps: 1 name: 'constant' warmup_ratio: 0 } "
STEADY = (
    "schedule { name: 'constant' warmup_ratio: 0 } optimizer { learning_rate: 5e-4 } "
    "checkpoints { cadence: CADENCE_STEPS every_steps: 2 keep: 9 } "
)


class Chain:
    """Trainings one after another, each in a run directory of its own."""

    def __init__(self, root: Path, model: Path, rows: dict[str, Path]) -> None:
        self.root = root
        self.model = model
        self.rows = rows

    def message(self, name: str, stage: str, method: str, changes: str, prepared: str = "") -> trainer_pb2.Bootstrap:
        spec = support.resolved_spec(self.model, stage, method, changes)
        message = support.bootstrap(self.root / name, spec, self.rows[prepared or stage])
        message.job_id = name
        return message

    def run(self, name: str, stage: str, method: str, changes: str = SHORT, prepared: str = "") -> Path:
        """The output."""
        train(self.message(name, stage, method, changes, prepared))
        return self.root / name / "output"

    def first_loss(self, name: str) -> float:
        return losses(self.root / name)[0]


@pytest.fixture(scope="module")
def chain(smol_nano: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """An adapter, and another one on top of it."""
    chain = Chain(tmp_path_factory.mktemp("chain"), smol_nano, rows)
    first = chain.run("first", "sft", "lora", "schedule { max_steps: 3 }")
    chain.run("second", "sft", "lora", f"schedule {{ max_steps: 3 }} model {{ adapters {{ path: '{first}' }} }}")
    return chain


def outputs(chain: Chain) -> tuple[Path, Path]:
    return chain.root / "first" / "output", chain.root / "second" / "output"


def test_what_is_merged_is_what_is_trained_on(chain: Chain) -> None:
    """Below a new adapter, which changes nothing yet, and as the adapter itself, the loss is the same."""
    first, second = outputs(chain)
    chain.run("merged", "sft", "lora", SHORT + f"model {{ adapters {{ path: '{second}' }} }}")
    chain.run("whole", "sft", "full", SHORT + f"model {{ adapters {{ path: '{second}' }} }}")
    chain.run("on", "sft", "lora", SHORT + f"lora {{ continue_from {{ path: '{second}' }} }}")
    # The second one brings the first along; who names both means the same.
    both = f"model {{ adapters {{ path: '{first}' }} adapters {{ path: '{second}' }} }}"
    chain.run("both", "sft", "lora", SHORT + both)
    chain.run("base", "sft", "lora")
    for name in ("whole", "on", "both"):
        assert chain.first_loss(name) == pytest.approx(chain.first_loss("merged"), rel=1e-4)
    assert abs(chain.first_loss("merged") - chain.first_loss("base")) > 0.1


def test_an_output_carries_all_that_it_stands_on(chain: Chain) -> None:
    _, second = outputs(chain)
    on = chain.run("carries", "sft", "lora", SHORT + f"lora {{ continue_from {{ path: '{second}' }} }}")
    top = chain.run("top", "sft", "lora", SHORT + f"model {{ adapters {{ path: '{second}' }} }}")
    assert [path.name for path in sorted((on / "base_adapters").iterdir())] == ["1"]
    assert [path.name for path in sorted((top / "base_adapters").iterdir())] == ["1", "2"]
    assert json.loads((top / "adapter_config.json").read_text())["base_model_name_or_path"] == "smol-nano"
    assert manifest.verify(top).job_id == "top"


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_preferences_compare_with_the_adapter_as_it_was(chain: Chain, stage: str) -> None:
    first, _ = outputs(chain)
    output = chain.run(f"{stage}-on", stage, "lora", SHORT + f"lora {{ continue_from {{ path: '{first}' }} }}")
    # Nothing was gained on the reference yet: log 2, and for KTO half of each weight.
    assert chain.first_loss(f"{stage}-on") == pytest.approx(math.log(2) if stage == "dpo" else 0.5, rel=1e-4)
    assert not (output / "ref").exists()


def test_another_reference_is_compared_with(chain: Chain) -> None:
    first, _ = outputs(chain)
    given = f"dpo {{ reference {{ path: '{first}' base_path: '{chain.model}' }} }}"
    chain.run("itself", "dpo", "lora", SHORT + given + f"model {{ adapters {{ path: '{first}' }} }}")
    chain.run("other", "dpo", "lora", SHORT + given)
    assert chain.first_loss("itself") == pytest.approx(math.log(2), rel=1e-4)
    assert abs(chain.first_loss("other") - math.log(2)) > 0.01


def test_a_reward_model_grows_on_an_adapter_and_is_trained_on(chain: Chain) -> None:
    first, _ = outputs(chain)
    judge = chain.run("judge", "reward", "lora", SHORT + f"model {{ adapters {{ path: '{first}' }} }}")
    again = chain.run("judge-on", "reward", "lora", SHORT + f"lora {{ continue_from {{ path: '{judge}' }} }}")
    from safetensors.torch import load_file

    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (judge, again))
    assert before.keys() == after.keys()
    head = next(key for key in before if "score" in key)
    assert float((before[head] - after[head]).abs().max()) > 0


def test_an_adapter_that_does_not_fit_is_told(chain: Chain, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    first, _ = outputs(chain)
    weights = load_file(first / "adapter_model.safetensors")
    cut = {key: value[:, :-1].contiguous() if "lora_A" in key else value for key, value in weights.items()}
    (tmp_path / "adapter_config.json").write_bytes((first / "adapter_config.json").read_bytes())
    save_file(cut, tmp_path / "adapter_model.safetensors")
    with pytest.raises(Refused, match=r"(?s)the adapter .* does not fit the model: .*size mismatch"):
        chain.run("misfit", "sft", "lora", SHORT + f"model {{ adapters {{ path: '{tmp_path}' }} }}")
    few = dict(list(weights.items())[4:])
    save_file(few, tmp_path / "adapter_model.safetensors")
    with pytest.raises(Refused, match=r"does not fit the model: Found missing adapter keys"):
        chain.run("lacking", "sft", "lora", SHORT + f"lora {{ continue_from {{ path: '{tmp_path}' }} }}")


# Going on from checkpoints of other jobs


@pytest.fixture(scope="module")
def saved(chain: Chain) -> Path:
    """Checkpoints of a job of 4 updates, and the whole of 8 updates that it is the beginning of."""
    chain.run("whole-8", "sft", "lora", STEADY + "schedule { max_steps: 8 }")
    chain.run("first-4", "sft", "lora", STEADY + "schedule { max_steps: 4 }")
    return chain.root / "first-4" / "checkpoints"


def joined(run: Path) -> Any:
    [started] = support.of_kind(support.events(run), "started")
    return started


def test_more_updates_on_the_same_rows_are_those_of_one_long_run(chain: Chain, saved: Path) -> None:
    chain.run(
        "longer", "sft", "lora", STEADY + f"schedule {{ max_steps: 8 }} resume {{ path: '{saved}/checkpoint-2' }}"
    )
    run = chain.root / "longer"
    assert [step.step for step in steps(run)] == [3, 4, 5, 6, 7, 8]
    assert losses(run) == pytest.approx(losses(chain.root / "whole-8")[2:], rel=1e-6)
    started = joined(run)
    assert (started.first_step, started.total_steps) == (2, 8)
    assert (started.joined.job, started.joined.step, started.joined.counts_on) == ("first-4", 2, True)
    [notice] = support.of_kind(support.events(run), "notice")
    assert notice.text == "goes on from step 2 of job first-4, on the same rows in the same order"


def test_the_rate_is_that_of_the_new_schedule(chain: Chain, saved: Path) -> None:
    faster = "schedule { max_steps: 8 name: 'linear' } optimizer { learning_rate: 1e-3 } "
    chain.run("faster", "sft", "lora", STEADY + faster + f"resume {{ path: '{saved}/checkpoint-4' }}")
    rates = [step.learning_rate for step in steps(chain.root / "faster")]
    assert rates == pytest.approx([1e-3 * left / 8 for left in (4, 3, 2, 1)])


def test_on_other_rows_it_begins_anew_with_what_was_learned(chain: Chain, saved: Path, tmp_path: Path) -> None:
    from datasets import load_from_disk

    other = load_from_disk(str(chain.rows["sft"] / "train")).select(range(4))
    other.save_to_disk(str(tmp_path / "other" / "train"))
    (tmp_path / "other" / "report.json").write_bytes((chain.rows["sft"] / "report.json").read_bytes())
    chain.rows["other"] = tmp_path / "other"
    changes = STEADY + "schedule { max_steps: 2 }"
    chain.run("anew", "sft", "lora", changes + f"resume {{ path: '{saved}/checkpoint-4' }}", "other")
    chain.run("fresh", "sft", "lora", changes, "other")
    run = chain.root / "anew"
    assert [step.step for step in steps(run)] == [1, 2]
    assert (joined(run).first_step, joined(run).joined.step, joined(run).joined.counts_on) == (0, 4, False)
    assert losses(run)[0] < losses(chain.root / "fresh")[0]


def test_a_checkpoint_that_leaves_nothing_to_do_or_is_not_whole_is_refused(
    chain: Chain, saved: Path, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match="is of step 4, and this training has 4 updates in all: nothing is left to do"):
        chain.run(
            "done", "sft", "lora", STEADY + f"schedule {{ max_steps: 4 }} resume {{ path: '{saved}/checkpoint-4' }}"
        )
    (tmp_path / "checkpoint-9").mkdir()
    with pytest.raises(Refused, match="checkpoint-9 has no readable manifest"):
        chain.run("torn", "sft", "lora", STEADY + f"resume {{ path: '{tmp_path}/checkpoint-9' }}")
    with pytest.raises(Refused, match="is of a training that moves other parameters"):
        chain.run(
            "unlike", "sft", "full", STEADY + f"schedule {{ max_steps: 8 }} resume {{ path: '{saved}/checkpoint-4' }}"
        )


# Saving now, and stopping with what was learned


class Asks(Report):
    """Asks this process, as the keeper would, when a step is told."""

    def __init__(self, journal: JournalWriter, at: int, number: int) -> None:
        super().__init__(journal, 1)
        self._at = at
        self._number = number

    def step(self, metrics: event_pb2.StepMetrics) -> None:
        super().step(metrics)
        if metrics.step == self._at:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("kept", [False, True], ids=["saved", "stopped"])
def test_a_checkpoint_now_and_an_output_now(chain: Chain, tmp_path: Path, kept: bool) -> None:
    from fttrain.recipe import train as body

    name = "kept" if kept else "saved-now"
    message = chain.message(name, "sft", "lora", "schedule { max_steps: 8 }")
    write_message(tmp_path / "stop.json", trainer_pb2.StopRequest(save=True, keep=True))
    stops.watch(tmp_path / "none.json")
    stops._request = tmp_path / "stop.json"
    run = chain.root / name
    with JournalWriter(run / "events.journal") as journal:
        said = body(message, Asks(journal, 3, signal.SIGUSR1 if kept else signal.SIGUSR2))
    assert said.outcome == event_pb2.OUTCOME_COMPLETED
    last = len(steps(run))
    assert last == (4 if kept else 8)
    assert (said.stopped_at, said.stopped_of) == ((4, 8) if kept else (0, 0))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["checkpoint-4"]
    assert manifest.verify(run / "output").step == last
