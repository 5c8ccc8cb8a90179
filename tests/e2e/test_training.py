"""Real trainings of the carved model on the CPU: every kind learns, reports, and has the losses of a plain TRL script.

They run in this process, through the same body that a rank runs; no daemon is there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.training import QUESTIONS, REJECTED, losses, of_kind, steps, train, turn

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


def plain_arguments(folder: Path, **more: Any) -> dict[str, Any]:
    """What a user would write to get the test's resolved spec."""
    return {
        "output_dir": str(folder),
        "learning_rate": 1e-3,
        "max_steps": 8,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 42,
    } | more


def plain_lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM")


def plain_sft(model: Path, folder: Path, *, lora: bool) -> list[float]:
    """Supervised fine-tuning as TRL's own documentation does it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in QUESTIONS]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=SFTConfig(**plain_arguments(folder)),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=plain_lora() if lora else None,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def plain_dpo(model: Path, folder: Path) -> list[float]:
    """Direct preference optimisation as TRL's own documentation does it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    data = [
        {"prompt": turn("user", q), "chosen": turn("assistant", a), "rejected": turn("assistant", REJECTED)}
        for q, a in QUESTIONS
    ]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=DPOConfig(**plain_arguments(folder, beta=0.1)),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=plain_lora(),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("stage", "method"), [("sft", "lora"), ("sft", "full"), ("dpo", "lora")])
def test_losses_are_those_of_a_plain_script(
    stage: str,
    method: str,
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    plain = tmp_path / "plain"
    expected = plain_dpo(smol_nano, plain) if stage == "dpo" else plain_sft(smol_nano, plain, lora=method == "lora")
    run = tmp_path / "ours"
    spec = support.resolved_spec(smol_nano, stage, method, "optimizer { learning_rate: 1e-3 }")
    train(support.bootstrap(run, spec, rows[stage]))
    assert losses(run) == pytest.approx(expected, rel=1e-5)
