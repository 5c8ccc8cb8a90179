"""The arithmetic of PPO, against its definitions written out."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from fttrain import advantages

# Answers of three and of one token.
MASK = tensor([[1.0, 1, 1], [1, 0, 0]])


def test_a_score_comes_with_the_last_token_and_each_pays_for_its_divergence() -> None:
    found = advantages.token_rewards(tensor([2.0, 5.0]), tensor([[1.0, 0, -1], [3, 9, 9]]), MASK, beta=0.5)
    assert found.tolist() == [[-0.5, 0, 2.5], [3.5, 0, 0]]


@pytest.mark.parametrize(("gamma", "decay"), [(1.0, 1.0), (0.9, 0.5), (1.0, 0.0)])
def test_an_advantage_is_the_decayed_sum_of_what_was_better_than_expected(gamma: float, decay: float) -> None:
    rewards, values = tensor([[0.0, 1, 2], [4, 0, 0]]), tensor([[1.0, 0.5, -1], [2, 7, 7]])
    found, returns = advantages.advantages(rewards, values, MASK, gamma, decay)
    surprises = [0 + gamma * 0.5 - 1, 1 + gamma * -1 - 0.5, 2 - -1]
    expected = [sum((gamma * decay) ** (later - at) * surprises[later] for later in range(at, 3)) for at in range(3)]
    assert found[0].tolist() == pytest.approx(expected)
    # What stands behind the end of an answer is nothing, whatever the value head makes of the padding.
    assert found[1].tolist() == [2, 0, 0]
    assert returns[0].tolist() == pytest.approx([e + v for e, v in zip(expected, [1, 0.5, -1], strict=True)])


def test_whitening_counts_the_tokens_of_answers_only() -> None:
    found = advantages.whitened(tensor([[1.0, 2, 3], [4, 100, 100]]), MASK)
    kept = found[MASK.bool()]
    assert kept.mean().item() == pytest.approx(0, abs=1e-6)
    assert kept.std(correction=0).item() == pytest.approx(1, rel=1e-5)
    assert found[1, 1:].tolist() == [0, 0]


def test_a_token_gains_nothing_from_going_further_than_the_clip() -> None:
    ratios = tensor([[1.5, 0.5, 1.1]]).log().requires_grad_()
    losses = advantages.policy_losses(ratios, tensor([[1.0, 1.0, 1.0]]), 0.2)
    assert losses.tolist()[0] == pytest.approx([-1.2, -0.5, -1.1])
    [gradient] = torch.autograd.grad(losses.sum(), ratios)
    assert gradient[0, 0] == 0
    assert gradient[0, 1] != 0
    assert advantages.policy_losses(tensor([[0.5]]).log(), tensor([[-1.0]]), 0.2).item() == pytest.approx(0.8)


def test_a_value_is_held_near_what_it_was() -> None:
    found = advantages.value_losses(tensor([[1.0, 0.1]]), torch.zeros(1, 2), tensor([[1.0, 1.0]]), 0.2)
    assert found.tolist()[0] == pytest.approx([0.5 * 0.8**2, 0.5 * 0.9**2])
