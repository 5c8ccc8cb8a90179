"""Every field of the spec that the trainer is to obey reaches an argument of TRL under its own value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.training import resolved_spec

CASES = [
    ("data { max_length: 99 }", {"max_length": 99}),
    ('optimizer { name: "sgd" }', {"optim": "sgd"}),
    ("optimizer { learning_rate: 0.25 }", {"learning_rate": 0.25}),
    ("optimizer { weight_decay: 0.25 }", {"weight_decay": 0.25}),
    (
        "optimizer { beta1: 0.5 beta2: 0.25 epsilon: 0.125 }",
        {"adam_beta1": 0.5, "adam_beta2": 0.25, "adam_epsilon": 0.125},
    ),
    ("optimizer { max_grad_norm: 0 }", {"max_grad_norm": 0}),
    ("schedule { max_steps: 77 }", {"max_steps": 77}),
    ('schedule { name: "linear" }', {"lr_scheduler_type": "linear"}),
    ("schedule { warmup_ratio: 0.25 }", {"warmup_steps": 0.25}),
    ("schedule { warmup_steps: 5 }", {"warmup_steps": 5}),
    ("batch { micro_batch: 3 global_batch: 12 }", {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}),
    ("compute { precision: DTYPE_BF16 }", {"bf16": True, "fp16": False}),
    ("compute { precision: DTYPE_FP16 }", {"bf16": False, "fp16": True}),
    ("compute { precision: DTYPE_FP32 }", {"bf16": False, "fp16": False}),
    ("compute { gradient_checkpointing: true }", {"activation_checkpointing": True}),
    (
        "evaluation { cadence: CADENCE_EPOCH micro_batch: 7 }",
        {"eval_strategy": "epoch", "per_device_eval_batch_size": 7},
    ),
    ("evaluation { cadence: CADENCE_STEPS every_steps: 9 }", {"eval_strategy": "steps", "eval_steps": 9}),
    ("checkpoints { cadence: CADENCE_STEPS every_steps: 9 }", {"save_strategy": "steps", "save_steps": 9}),
    ("resources { device: DEVICE_KIND_GPU }", {"use_cpu": False, "dataloader_pin_memory": True}),
    ("seed: 7", {"seed": 7, "data_seed": 7}),
]


@pytest.mark.parametrize(("changes", "expected"), CASES, ids=[change for change, _ in CASES])
def test_a_field_reaches_its_argument(changes: str, expected: dict[str, Any]) -> None:
    from fttrain.arguments import common

    given = common(resolved_spec(Path("/models/m"), changes=changes), Path("/run/checkpoints"))
    assert {name: given[name] for name in expected} == expected


def test_epochs_decide_where_no_steps_are_given() -> None:
    from fttrain.arguments import common

    spec = resolved_spec(Path("/models/m"), changes="schedule { epochs: 2.5 }")
    spec.schedule.ClearField("max_steps")
    given = common(spec, Path("/run/checkpoints"))
    assert (given["num_train_epochs"], given["max_steps"]) == (2.5, -1)


def test_the_global_batch_is_shared_by_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    from fttrain.arguments import common

    monkeypatch.setenv("WORLD_SIZE", "2")
    given = common(resolved_spec(Path("/models/m")), Path("/run/checkpoints"))
    assert (given["per_device_train_batch_size"], given["gradient_accumulation_steps"]) == (2, 1)
    assert given["ddp_backend"] == "gloo"
