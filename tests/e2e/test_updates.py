"""Optimizers, schedules, noise and losses of supervised fine-tuning: each trains, and moves the rate as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.training import losses, steps, train

from finetuned.v1 import training_pb2
from ftd import memory, wire
from ftd.optimizers import TABLE
from ftd.spec import TrainingSpec
from ftsched.optimizers import optimizer_bytes
from ftsched.shapes import shape_of
from ftsched.trained import trained_parameters

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHORT = "schedule { max_steps: 4 warmup_ratio: 0 } batch { micro_batch: 4 global_batch: 4 }"
RATES = {"adafactor": 1e-2, "sgd": 0.1, "adagrad": 2e-2, "rmsprop": 1e-4, "lion_32bit": 1e-3, "lion_8bit": 1e-3}
RATES |= dict.fromkeys(("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"), 1e-4)
HERE = [name for name, kind in TABLE.items() if not kind.needs_gpu and not kind.package]


def spec_with(model: Path, changes: str, method: str = "lora") -> training_pb2.TrainingSpec:
    return support.resolved_spec(model, "sft", method, f"{SHORT} {changes}")


def held_bytes(state: Any) -> int:
    """Of all tensors, at whatever depth."""
    if isinstance(state, dict):
        return sum(map(held_bytes, state.values()))
    return getattr(state, "nbytes", 0)


@pytest.mark.parametrize("name", HERE)
def test_an_optimizer_trains_and_keeps_what_is_estimated(
    name: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoConfig

    momentum = "momentum: 0.9" if "momentum" in TABLE[name].fields else ""
    optimizer = f'optimizer {{ name: "{name}" learning_rate: {RATES.get(name, 5e-3)} {momentum} }}'
    spec = spec_with(smol_nano, f"{optimizer} checkpoints {{ cadence: CADENCE_STEPS every_steps: 4 }}")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))

    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    work = memory.workload_of(wire.from_proto(TrainingSpec, spec), 64)
    shape = shape_of(AutoConfig.from_pretrained(smol_nano).to_dict())
    (saved,) = tmp_path.glob("checkpoints/*/optimizer.pt")
    held = held_bytes(torch.load(saved, weights_only=True)["state"])
    estimated, _ = optimizer_bytes(work, shape, trained_parameters(work, shape))
    # Small tensors keep 32 bits where large ones keep 8, and adapters are small.
    assert 0.4 * held <= estimated + 0.05 * 4 * trained_parameters(work, shape)
    if "8bit" not in name and name != "adafactor":
        assert estimated == pytest.approx(held, rel=0.02)


@pytest.mark.parametrize("name", [name for name, kind in TABLE.items() if kind.package and not kind.needs_gpu])
def test_an_optimizer_of_another_package_trains(
    name: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    pytest.importorskip(TABLE[name].module)
    projected = "projection_rank: 8 projection_interval: 200 projection_scale: 1" if TABLE[name].projects else ""
    changes = f'optimizer {{ name: "{name}" learning_rate: 1e-3 {projected} }}'
    train(support.bootstrap(tmp_path, spec_with(smol_nano, changes, "full"), rows["sft"]))
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]


SCHEDULES = {
    'name: "cosine_with_restarts" restarts: 2': [1.0, 0.85, 0.5, 0.15, 1.0, 0.85, 0.5, 0.15],
    'name: "cosine_with_min_lr" min_lr_ratio: 0.5': [1.0, 0.98, 0.93, 0.85, 0.75, 0.65, 0.57, 0.52],
    'name: "cosine_warmup_with_min_lr" min_lr_ratio: 0.5': [0.98, 0.93, 0.85, 0.75, 0.65, 0.57, 0.52, 0.5],
    'name: "polynomial" power: 2': [1.0, 0.77, 0.56, 0.39, 0.25, 0.14, 0.06, 0.02],
    'name: "warmup_stable_decay" decay_ratio: 0.5 decay: DECAY_LINEAR min_lr_ratio: 0': [
        1,
        1,
        1,
        1,
        1,
        0.75,
        0.5,
        0.25,
    ],
}


@pytest.mark.parametrize(("schedule", "rates"), SCHEDULES.items())
def test_a_schedule_moves_the_rate(
    schedule: str, rates: list[float], smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    spec = spec_with(
        smol_nano, f"schedule {{ max_steps: 8 warmup_steps: 0 {schedule} }} optimizer {{ learning_rate: 1 }}"
    )
    spec.schedule.ClearField("warmup_ratio")
    spec.optimizer.learning_rate = 1e-3
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    assert [step.learning_rate / 1e-3 for step in steps(tmp_path)] == pytest.approx(rates, abs=0.01)


def test_noise_and_the_dynamic_loss_change_what_is_learned(
    smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    changes = {"plain": "", "noise": "compute { neftune_noise_alpha: 5 }", "dynamic": "sft { loss: SFT_LOSS_DFT }"}
    found = {}
    for name, change in changes.items():
        run = tmp_path / name
        train(support.bootstrap(run, spec_with(smol_nano, change), rows["sft"]))
        found[name] = losses(run)
    assert found["noise"][0] != found["plain"][0]
    # Each token's loss times its probability is less than its loss, and 1/e at most.
    assert 0 < found["dynamic"][0] < 0.37 < found["plain"][0]


def test_the_rate_falls_where_nothing_is_gained(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    plateau = 'schedule { name: "reduce_lr_on_plateau" plateau_factor: 0.5 plateau_patience: 0 }'
    # A loss that falls is no gain for somebody who wants more of it.
    metric = 'cadence: CADENCE_STEPS every_steps: 1 micro_batch: 3 metric: "loss" higher_is_better: true'
    spec = spec_with(smol_nano, f"{plateau} evaluation {{ {metric} }} optimizer {{ learning_rate: 1e-3 }}")
    spec.schedule.ClearField("warmup_ratio")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    assert [step.learning_rate / 1e-3 for step in steps(tmp_path)] == pytest.approx([1, 1, 0.5, 0.25])
