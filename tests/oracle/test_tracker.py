"""The tracker counts what is alive, as CUDA's allocator would hand it out."""

from __future__ import annotations

import torch
from tests.oracle.cuda import fake_gpu
from tests.oracle.tracker import ROUNDING


def test_a_tensor_counts_while_it_lives_and_in_whole_blocks() -> None:
    with fake_gpu() as storages:
        first = torch.empty(ROUNDING + 1, dtype=torch.uint8)
        assert storages.peak.bytes == 2 * ROUNDING
        del first
        torch.empty(1)
        assert storages.peak.bytes == 2 * ROUNDING
        storages.reset()
        assert storages.peak.bytes == 0


def test_views_and_changes_in_place_cost_nothing() -> None:
    with fake_gpu() as storages:
        tensor = torch.zeros(ROUNDING)
        tensor.view(2, -1).t().add_(1)
        assert storages.peak.bytes == tensor.nbytes


def test_the_peak_says_for_which_node_of_the_backward_pass_it_was() -> None:
    with fake_gpu() as storages:
        weight = torch.ones(ROUNDING, requires_grad=True)
        loss = weight.exp().sum()
        storages.reset()
        loss.backward()  # type: ignore[no-untyped-call]
    # The weight, its exponential and its gradient; the loss and its gradient, each in a block of its own.
    assert storages.peak.bytes == 3 * weight.nbytes + 2 * ROUNDING
    assert (storages.peak.operation, storages.peak.node) == ("aten.mul.Tensor", "ExpBackward0")
