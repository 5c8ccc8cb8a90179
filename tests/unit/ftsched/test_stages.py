"""What each stage needs beside a plain training: pairs, references, heads, answers that it writes itself."""

from __future__ import annotations

from typing import get_args

import pytest
from tests.unit.ftsched.test_estimate import LLAMA_3_8B, SMOLLM2, work

from ftsched.estimate import Estimate, estimate
from ftsched.shapes import shape_of
from ftsched.trained import trained_parameters
from ftsched.workload import PAIRED, REFERENCED, Stage

SHAPE = shape_of(LLAMA_3_8B)


def found(stage: str, method: str = "lora", **more: object) -> Estimate:
    return estimate(work(method, 2, 1024, rank=16, stage=stage, **more), LLAMA_3_8B)


def terms(estimated: Estimate) -> dict[str, int]:
    return {term.name: term.bytes for term in estimated.terms}


@pytest.mark.parametrize("stage", get_args(Stage))
@pytest.mark.parametrize("method", ["full", "freeze", "lora", "qlora"])
def test_every_stage_and_method_has_an_estimate(stage: str, method: str) -> None:
    estimated = estimate(work(method, 2, 512, rank=8, stage=stage, trained_layers=2), SMOLLM2)
    assert sum(term.bytes for term in estimated.terms) == estimated.reserve_bytes
    assert estimated.uncertainty > 0


@pytest.mark.parametrize("stage", sorted(PAIRED - {"reward"}))
def test_a_pair_is_two_rows(stage: str) -> None:
    pair, rows = found(stage), estimate(work("lora", 4, 1024, rank=16), LLAMA_3_8B)
    assert terms(pair)["saved activations"] == terms(rows)["saved activations"]


@pytest.mark.parametrize("stage", sorted(REFERENCED))
def test_the_reference_is_a_second_model_only_where_all_weights_move(stage: str) -> None:
    assert "reference model" not in terms(found(stage))
    assert terms(found(stage, "full"))["reference model"] == 2 * SHAPE.parameters
    assert "reference model" not in terms(found(stage, "full", reference=False))


def test_without_recomputation_the_reference_runs_on_top_of_what_is_kept() -> None:
    with_reference, without = (found("kto", "qlora", recompute=False, reference=r) for r in (True, False))
    assert with_reference.peak_bytes > without.peak_bytes


def test_a_reward_model_has_no_vocabulary() -> None:
    reward = found("reward", "full")
    assert terms(reward)["weights"] == 2 * (SHAPE.parameters - SHAPE.embedding + SHAPE.hidden)
    assert found("reward").peak_bytes < found("dpo").peak_bytes
    assert trained_parameters(work("lora", 1, 1, rank=16, stage="reward"), SHAPE) == (
        trained_parameters(work("lora", 1, 1, rank=16), SHAPE) + SHAPE.hidden
    )


def test_all_logits_cost_more_than_tiles() -> None:
    assert found("orpo", loss="logits").peak_bytes > found("orpo").peak_bytes
    assert found("orpo", loss="logits").moment == "loss"


def test_writing_answers_keeps_keys_and_values() -> None:
    writing = found("grpo", generated_rows=256, completion=512)
    assert writing.moment == "generation"
    assert terms(writing)["keys and values"] == 256 * 1024 * SHAPE.layers * 2 * SHAPE.group * 2


def test_only_answers_are_scored() -> None:
    short, whole = (found("grpo", "full", completion=c, recompute=False).peak_bytes for c in (64, 1024))
    assert short < whole


def test_a_value_head_and_a_model_beside_it_are_counted() -> None:
    assert found("ppo", value_head=True, recompute=False).peak_bytes > found("ppo", recompute=False).peak_bytes
    assert terms(found("grpo", other_models_bytes=123))["other models"] == 123


def test_only_what_was_measured_is_narrow() -> None:
    assert found("sft").uncertainty < found("dpo").uncertainty
    assert found("sft", gpus=2, sharding="fsdp").uncertainty < found("sft", gpus=2, sharding="zero3").uncertainty
