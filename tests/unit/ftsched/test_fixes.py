"""What would make a training fit: single changes, the mildest of each kind, and several where one is not enough."""

from __future__ import annotations

import pytest
from tests.unit.ftsched.test_estimate import GIB, LLAMA_3_8B, SMOLLM2, work

from ftsched.estimate import estimate_shape
from ftsched.fixes import cheapest_fixes
from ftsched.shapes import shape_of

SHAPE = shape_of(LLAMA_3_8B)


def needs(workload: object) -> int:
    return estimate_shape(workload, SHAPE).reserve_bytes  # type: ignore[arg-type]


def test_what_fits_needs_no_fix() -> None:
    tight = work("lora", 4, 2048, rank=16)
    assert cheapest_fixes(tight, SHAPE, needs(tight)) == ()


def test_the_mildest_of_each_kind_that_is_enough_comes_in_order_of_cheapness() -> None:
    wide = work("lora", 8, 4096, rank=16, recompute=False, eval_micro_batch=8)
    fixes = cheapest_fixes(wide, SHAPE, 60 * GIB)
    assert [fix.settings[0].field for fix in fixes] == [
        "batch.micro_batch",
        "compute.gradient_checkpointing",
        "data.max_length",
    ]
    assert all(fix.estimate.reserve_bytes <= 60 * GIB for fix in fixes)
    size = int(fixes[0].settings[0].value)
    assert needs(work("lora", 2 * size, 4096, rank=16, recompute=False, accumulates=True)) > 60 * GIB


def test_a_smaller_micro_batch_takes_the_evaluation_along() -> None:
    wide = work("lora", 4, 1024, rank=16, eval_micro_batch=64)
    fix = cheapest_fixes(wide, SHAPE, 24 * GIB)[0]
    assert [setting.field for setting in fix.settings][-1] == "evaluation.micro_batch"


@pytest.mark.parametrize(("method", "field", "value"), [("full", "method", "lora"), ("lora", "method", "qlora")])
def test_the_method_is_changed_no_further_than_needed(method: str, field: str, value: str) -> None:
    fixes = cheapest_fixes(work(method, 1, 256, rank=16), SHAPE, 24 * GIB if value == "lora" else 12 * GIB)
    assert [(setting.field, setting.value) for setting in fixes[0].settings] == [(field, value)]


def test_an_8_bit_optimizer_can_be_enough_and_more_gpus_too() -> None:
    fixes = cheapest_fixes(work("full", 1, 256, autocast=True), SHAPE, 60 * GIB, most_gpus=4)
    assert [fix.change for fix in fixes] == ["8-bit optimizer states", "LoRA", "4 GPUs with FSDP"]


def test_several_changes_where_one_is_not_enough_and_none_that_is_not_needed() -> None:
    wide = work("lora", 8, 8192, rank=16, recompute=False)
    fixes = cheapest_fixes(wide, SHAPE, 24 * GIB)
    assert len(fixes) == 1
    assert fixes[0].estimate.reserve_bytes <= 24 * GIB
    assert [setting.field for setting in fixes[0].settings] == ["batch.micro_batch", "compute.gradient_checkpointing"]


def test_nothing_helps_where_the_weights_alone_are_too_much() -> None:
    assert cheapest_fixes(work("lora", 8, 4096, rank=16), SHAPE, 3 * GIB, most_gpus=1) == ()


def test_a_fix_says_what_the_changed_training_needs() -> None:
    wide = work("lora", 8, 2048, rank=16, recompute=False)
    small = shape_of(SMOLLM2)
    fix = next(fix for fix in cheapest_fixes(wide, small, 8 * GIB) if fix.change == "recomputation")
    assert fix.estimate == estimate_shape(work("lora", 8, 2048, rank=16), small)
