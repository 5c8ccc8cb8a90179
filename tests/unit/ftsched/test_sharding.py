"""What each of several GPUs holds, by hand: divided, gathered, exchanged."""

from __future__ import annotations

import pytest
from tests.unit.ftsched.test_estimate import GIB, LLAMA_3_8B, MISTRAL_7B, work

from ftsched.estimate import estimate, estimate_shape
from ftsched.shapes import shape_of
from ftsched.sharding import ZERO_BUCKET, division

SHAPE = shape_of(MISTRAL_7B)
P = SHAPE.parameters


def term(name: str, method: str, **more: object) -> float:
    """Bytes of a term in the moment of the peak; 0 if it has none then."""
    found = estimate_shape(work(method, 1, 512, **more), SHAPE)
    return next((each.bytes for each in found.terms if each.name == name), 0)


def test_one_gpu_divides_nothing() -> None:
    shares = division(work("full", 1, 512, sharding="fsdp"), SHAPE, P * 2)
    assert (shares.weights, shares.gradients, shares.states) == (1, 1, 1)
    assert shares.gathered_layer == shares.exchanged == shares.kept_inputs == 0


@pytest.mark.parametrize(
    ("sharding", "divided"),
    [
        ("ddp", (1, 1, 1)),
        ("zero1", (1, 1, 4)),
        ("zero2", (1, 4, 4)),
        ("zero3", (4, 4, 4)),
        ("fsdp", (4, 4, 4)),
        ("fsdp2", (4, 4, 4)),
    ],
)
def test_each_kind_divides_one_thing_more(sharding: str, divided: tuple[int, int, int]) -> None:
    shares = division(work("full", 1, 512, gpus=4, sharding=sharding), SHAPE, P * 2)
    assert (shares.weights, shares.gradients, shares.states) == divided


def test_what_is_exchanged_is_all_gradients_or_a_bucket() -> None:
    exchanged = [division(work("full", 1, 512, gpus=2, sharding=s), SHAPE, P * 2).exchanged for s in ("ddp", "zero2")]
    assert exchanged == [P * 2, ZERO_BUCKET]
    assert division(work("lora", 1, 512, gpus=2, sharding="zero1"), SHAPE, 1000).exchanged == 1000


def test_a_step_of_fsdp_with_its_mixed_precision_is_20_bytes_a_parameter() -> None:
    for gpus in (2, 4):
        several = work("full", 4, 4096, gpus=gpus, sharding="fsdp", autocast=True, optimizer="adamw_torch")
        found = estimate(several, MISTRAL_7B)
        assert found.moment == "step"
        assert found.peak_bytes == pytest.approx(20 * P / gpus, rel=1e-6)


def test_a_layer_and_what_belongs_to_none_are_gathered() -> None:
    shares = division(work("lora", 1, 512, gpus=2, sharding="zero3"), SHAPE, 0)
    assert shares.gathered_layer == pytest.approx(2 * 218_112_000, rel=0.01)
    assert shares.gathered_root == 2 * (2 * SHAPE.embedding + 4096)


def test_a_quantised_layer_is_gathered_as_it_is() -> None:
    sizes = [
        division(work(m, 1, 512, rank=1, gpus=2, sharding="fsdp"), SHAPE, 0).gathered_layer for m in ("qlora", "lora")
    ]
    assert sizes[0] < sizes[1] / 3


def test_the_first_fsdp_holds_what_frozen_layers_were_given() -> None:
    held = "gradients of the layers' inputs"
    tokens, gradients = 512, 2 * 4096
    assert term(held, "lora", rank=8, gpus=2, sharding="fsdp") == 30 * tokens * gradients
    assert term(held, "lora", rank=8, gpus=2, sharding="fsdp2") == 0
    assert term(held, "lora", rank=8, gpus=2, sharding="zero3") == 0
    assert term(held, "full", gpus=2, sharding="fsdp") == 0


def test_what_the_host_holds_is_not_on_the_device() -> None:
    assert term("weights", "lora", rank=8, gpus=2, sharding="fsdp", offloaded=True) == 0
    assert term("gathered parameters", "lora", rank=8, gpus=2, sharding="fsdp", offloaded=True) > 0


@pytest.mark.parametrize("sharding", ["zero1", "zero2", "zero3", "fsdp", "fsdp2"])
def test_more_gpus_never_take_more_each(sharding: str) -> None:
    peaks = [
        estimate(work("full", 1, 1024, gpus=gpus, sharding=sharding), LLAMA_3_8B).peak_bytes / GIB
        for gpus in (2, 4, 8, 16)
    ]
    assert peaks == sorted(peaks, reverse=True)
