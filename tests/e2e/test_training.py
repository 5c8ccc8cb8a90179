"""Real trainings of the carved model on the CPU: every kind learns, reports, and has the losses of a plain TRL script.

They run in this process, through the same body that a rank runs; no daemon is there.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.support import plain_trl
from tests.support import training as support
from tests.support.training import losses, of_kind, steps, train

from finetuned.v1 import event_pb2
from fttrain import manifest

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


KINDS = {
    ("sft", "lora"): "optimizer { learning_rate: 2e-3 }",
    ("sft", "qlora"): "optimizer { learning_rate: 2e-3 }",
    ("sft", "full"): "optimizer { learning_rate: 3e-4 }",
    ("sft", "freeze"): "optimizer { learning_rate: 1e-3 }",
    ("pretrain", "lora"): "optimizer { learning_rate: 2e-3 } data { packing: true }",
    ("dpo", "lora"): "optimizer { learning_rate: 1e-3 }",
    ("reward", "lora"): "optimizer { learning_rate: 1e-3 }",
    ("reward", "qlora"): "optimizer { learning_rate: 1e-3 }",
    ("reward", "full"): "optimizer { learning_rate: 1e-4 }",
    ("reward", "freeze"): "optimizer { learning_rate: 1e-4 }",
    ("kto", "lora"): "optimizer { learning_rate: 2e-3 } kto { beta: 0.5 }",
    ("kto", "full"): "optimizer { learning_rate: 1e-4 } kto { beta: 0.5 }",
    ("orpo", "lora"): "optimizer { learning_rate: 2e-3 }",
    ("orpo", "full"): "optimizer { learning_rate: 3e-4 }",
    ("orpo", "qlora"): "optimizer { learning_rate: 2e-3 }",
    ("cpo", "lora"): "optimizer { learning_rate: 2e-3 }",
    ("cpo", "full"): "optimizer { learning_rate: 3e-4 } cpo { loss: CPO_LOSS_SIMPO beta: 2 gamma: 1 nll_weight: 0 }",
}


@pytest.mark.parametrize(("stage", "method"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_the_loss_falls(stage: str, method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, stage, method, KINDS[stage, method])
    result = train(support.bootstrap(tmp_path, spec, rows[stage]))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    seen = steps(tmp_path)
    assert [step.step for step in seen] == list(range(1, 9))
    assert sum(losses(tmp_path)[-2:]) < 0.8 * sum(losses(tmp_path)[:2])
    manifest.verify(tmp_path / "output")


def test_what_a_step_reports(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    changes = "schedule { max_steps: 2 } evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 2 }"
    train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, changes=changes), rows["sft"]))

    told = support.events(tmp_path)
    (started,) = of_kind(told, "started")
    assert (started.first_step, started.total_steps, started.world_size) == (0, 2, 1)
    assert 0 < started.trainable_parameters < started.parameters
    first, second = of_kind(told, "step")
    assert (first.epoch, second.epoch) == (0.5, 1.0)
    assert second.learning_rate < first.learning_rate or first.learning_rate == 0
    assert first.grad_norm > 0
    # Eight rows in two updates, no padding counted.
    assert second.tokens == sum(map(len, _tokens(rows["sft"])))
    assert second.tokens_per_second == pytest.approx((second.tokens - first.tokens) / second.step_seconds)
    assert 100 << 20 < second.peak_memory_bytes < 100 << 30
    assert all(math.isfinite(e.loss) and e.seconds > 0 for e in of_kind(told, "evaluation"))
    assert [e.step for e in of_kind(told, "evaluation")] == [1, 2]
    phases = [event_pb2.Phase.Name(phase.phase) for phase in of_kind(told, "phase")]
    assert phases[0] == "PHASE_TRAINING"
    assert "PHASE_EVALUATING" in phases
    assert phases[-1] == "PHASE_EXPORTING"


def _tokens(prepared: Path) -> list[list[int]]:
    from datasets import load_from_disk

    return list(load_from_disk(str(prepared / "train"))["input_ids"])


def test_dpo_reports_rewards_and_margins(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, "dpo", "full", "schedule { max_steps: 2 warmup_ratio: 0 }")
    train(support.bootstrap(tmp_path, spec, rows["dpo"]))

    first, second = (step.extra for step in steps(tmp_path))
    # The model starts as its own reference and then moves away from it.
    assert first["rewards/margins"] == 0
    assert second["rewards/chosen"] != 0
    assert second["rewards/margins"] == pytest.approx(second["rewards/chosen"] - second["rewards/rejected"], rel=1e-4)
    assert 0 <= second["rewards/accuracies"] <= 1


def test_freeze_moves_the_last_layers_only(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    spec = support.resolved_spec(smol_nano, "sft", "freeze", "schedule { max_steps: 2 warmup_ratio: 0 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))

    before, after = load_file(smol_nano / "model.safetensors"), load_file(tmp_path / "output" / "model.safetensors")
    moved = {name for name, weight in after.items() if not weight.equal(before[name].to(weight.dtype))}
    assert moved == {name for name in after if name.startswith(("model.layers.2.", "model.layers.3."))}


def test_packed_documents_do_not_see_each_other(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    """One update over all rows has the same loss, whether they lie in one packed sequence or each in its own."""
    first = {}
    for packing in ("true", "false"):
        changes = (
            f"schedule {{ max_steps: 1 }} batch {{ micro_batch: 8 global_batch: 8 }} data {{ packing: {packing} }}"
        )
        run = tmp_path / packing
        spec = support.resolved_spec(smol_nano, "pretrain", "lora", changes)
        train(support.bootstrap(run, spec, rows["pretrain"]))
        first[packing] = steps(run)[0]
    assert first["true"].loss == pytest.approx(first["false"].loss, rel=1e-5)
    assert first["true"].tokens == first["false"].tokens


@pytest.mark.parametrize(
    ("stage", "method"),
    [
        ("sft", "lora"),
        ("sft", "full"),
        ("dpo", "lora"),
        ("dpo", "full"),
        ("reward", "lora"),
        ("reward", "full"),
        ("kto", "lora"),
        ("kto", "full"),
        ("orpo", "lora"),
        ("cpo", "lora"),
    ],
)
def test_losses_are_those_of_a_plain_script(
    stage: str, method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    expected = plain_trl.losses(stage, smol_nano, tmp_path / "plain", lora=method == "lora")
    run = tmp_path / "ours"
    spec = support.resolved_spec(smol_nano, stage, method, "optimizer { learning_rate: 1e-3 }")
    train(support.bootstrap(run, spec, rows["texts" if stage in ("orpo", "cpo") else stage]))
    assert losses(run) == pytest.approx(expected, rel=1e-5)
