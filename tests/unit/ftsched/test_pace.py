"""The arithmetic of a token by hand, and the speeds of devices by their names."""

from __future__ import annotations

import pytest

from ftsched.pace import REACHED, UNKNOWN_GPU, device_speed, token_operations
from ftsched.shapes import shape_of
from ftsched.workload import Workload

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 1000,
    "tie_word_embeddings": True,
}
SHAPE = shape_of(CONFIG)
# Every weight but the norms meets each token once; the embedding is the head.
WEIGHTS = SHAPE.parameters
ATTENTION = 2 * 2 * 64 * 128


def work(method: str, *, stage: str = "sft", recompute: bool = False) -> Workload:
    return Workload(
        stage=stage,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        device="gpu",
        gpus=1,
        weight_bytes=2,
        autocast=True,
        micro_batch=1,
        sequence=128,
        accumulates=False,
        recompute=recompute,
        optimizer="adamw_torch_fused",
        attention="sdpa",
        rank=8,
        targets=("q_proj",),
    )


def test_a_full_training_is_six_operations_a_weight_and_token() -> None:
    assert token_operations(work("full"), SHAPE) == 6 * WEIGHTS + 2 * ATTENTION


def test_recomputation_adds_a_forward_pass() -> None:
    more = token_operations(work("full", recompute=True), SHAPE) - token_operations(work("full"), SHAPE)
    assert more == 2 * WEIGHTS + ATTENTION


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    adapters = 2 * 8 * (64 + 64)
    assert token_operations(work("lora"), SHAPE) == 4 * WEIGHTS + 2 * ATTENTION + 2 * adapters


def test_a_reference_is_one_more_forward_pass() -> None:
    more = token_operations(work("lora", stage="dpo"), SHAPE) - token_operations(work("lora"), SHAPE)
    assert more == 2 * WEIGHTS + ATTENTION


def test_only_the_active_experts_of_a_token_count() -> None:
    sparse = CONFIG | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    dense = CONFIG | {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 2}
    few, many = (token_operations(work("lora"), shape_of(config)) for config in (dense, sparse))
    # The router of six more experts is all that differs.
    assert many - few == 4 * 2 * 64 * 6


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 9.9e14),
        ("NVIDIA H100 PCIe", 7.6e14),
        ("NVIDIA L40S", 3.6e14),
        ("NVIDIA L4", 1.2e14),
        ("NVIDIA GeForce RTX 4090", 1.65e14),
        ("Some new card", UNKNOWN_GPU),
    ],
)
def test_a_device_is_known_by_the_longest_name(name: str, peak: float) -> None:
    assert device_speed(name) == REACHED * peak


def test_a_cpu_is_as_fast_as_its_cores() -> None:
    assert device_speed("CPU", cores=8) == 4 * device_speed("CPU", cores=2)
