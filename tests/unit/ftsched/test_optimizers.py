"""What optimizers keep, by hand."""

from __future__ import annotations

import pytest
from tests.unit.ftsched.test_estimate import LLAMA_3_8B, work

from ftsched.estimate import estimate
from ftsched.optimizers import OPTIMIZERS, UnknownOptimizer, optimizer_bytes
from ftsched.shapes import shape_of

SHAPE = shape_of(LLAMA_3_8B)


@pytest.mark.parametrize(
    ("name", "states", "scratch"),
    [
        ("adamw_torch_fused", 4, 0),
        ("adamw_torch", 4, 2),
        ("paged_adamw_8bit", 2.03, 0),
        ("paged_adamw_32bit", 8, 0),
        ("lion", 2, 2),
        ("lion_8bit", 1.02, 0),
        ("sgd", 0, 0),
        ("sgd_momentum", 2, 0),
        ("adafactor", 0.01, 4),
    ],
)
def test_bytes_of_a_16_bit_parameter(name: str, states: float, scratch: float) -> None:
    found = optimizer_bytes(work("full", 1, 512, optimizer=name), SHAPE, 1000)
    assert found == pytest.approx((states * 1000, scratch * 1000))


@pytest.mark.parametrize("name", ["galore_adamw", "apollo_adamw"])
def test_low_ranks_keep_a_fraction_of_the_matrices_states(name: str) -> None:
    low, _ = optimizer_bytes(work("full", 1, 512, optimizer=name), SHAPE, SHAPE.parameters)
    whole, _ = optimizer_bytes(work("full", 1, 512), SHAPE, SHAPE.parameters)
    rest = 4 * (SHAPE.parameters - SHAPE.linear_weights)
    assert rest < low < rest + 0.1 * whole


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_optimizer_has_an_estimate(name: str, method: str) -> None:
    assert estimate(work(method, 1, 512, rank=8, optimizer=name), LLAMA_3_8B).peak_bytes > 0


def test_an_optimizer_that_is_not_known_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownOptimizer, match="optimizer is 'novel'; accepted are adafactor, "):
        estimate(work("full", 1, 512, optimizer="novel"), LLAMA_3_8B)
