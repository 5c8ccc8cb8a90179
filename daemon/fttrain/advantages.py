"""The arithmetic of proximal policy optimisation: advantages of tokens, and both clipped losses. Pure tensors.

All are (answers, tokens), with a mask of the same shape that is 1 for the tokens of an answer, which begin at the left.
Source: arXiv 1506.02438 and 1707.06347.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(scores: Tensor, log_ratios: Tensor, mask: Tensor, beta: float) -> Tensor:
    """What each token is rewarded with: its divergence taken off, and the last one of an answer also has the score.

    `scores` are (answers,), `log_ratios` the log-probabilities less those of the reference.
    """
    rewards = -beta * log_ratios * mask
    last = (mask.sum(1) - 1).long()
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, decay: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and the returns that values are to come to. An answer's end is the end."""
    values = values * mask
    found = torch.zeros_like(rewards)
    after = torch.zeros_like(rewards[:, 0])
    for step in reversed(range(rewards.shape[1])):
        value_after = values[:, step + 1] if step + 1 < values.shape[1] else torch.zeros_like(after)
        after = (rewards[:, step] + gamma * value_after - values[:, step] + gamma * decay * after) * mask[:, step]
        found[:, step] = after
    return found, found + values


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """With mean 0 and deviation 1 over all tokens of the mask."""
    count = mask.sum()
    mean = (values * mask).sum() / count
    variance = ((values - mean) ** 2 * mask).sum() / count
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask


def policy_losses(log_ratios: Tensor, advantages: Tensor, epsilon: float) -> Tensor:
    """Of each token; `log_ratios` are the log-probabilities less those with which the answer was drawn."""
    ratios = log_ratios.exp()
    return -torch.min(ratios * advantages, ratios.clamp(1 - epsilon, 1 + epsilon) * advantages)


def value_losses(values: Tensor, before: Tensor, returns: Tensor, epsilon: float) -> Tensor:
    """Of each token; a value gains nothing by going further than `epsilon` from what it was before."""
    clipped = before + (values - before).clamp(-epsilon, epsilon)
    return 0.5 * torch.max((values - returns) ** 2, (clipped - returns) ** 2)
