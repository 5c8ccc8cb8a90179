"""What is judged of evaluations, from their figures alone."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import text_format

from finetuned.v1 import training_pb2
from fttrain.evaluation import Evaluations, Verdict, judge
from fttrain.report import Report


def evaluations(text: str = "", stage: str = "sft {}", **sets: int) -> Evaluations:
    spec = text_format.Parse(f'{stage} evaluation {{ metric: "loss" {text} }}', training_pb2.TrainingSpec())
    return Evaluations(spec, {name: range(rows) for name, rows in sets.items()}, Report(None, 1))


def after(*losses: float) -> Any:
    """A trainer's state with an evaluation at each of the steps 10, 20, …"""
    log = [{"step": 10 * number, "eval_loss": loss} for number, loss in enumerate(losses, 1)]
    return SimpleNamespace(log_history=log)


@pytest.mark.parametrize(
    ("values", "higher", "min_delta", "expected"),
    [
        ([3.0, 2.0, 2.5, 2.4], False, 0.0, Verdict(20, 2.0, 2)),
        ([0.1, 0.3, 0.2], True, 0.0, Verdict(20, 0.3, 1)),
        # The best may be no gain: each is a little better, and none by enough.
        ([2.0, 1.95, 1.92], False, 0.1, Verdict(30, 1.92, 2)),
        ([2.0, 1.95, 1.89], False, 0.1, Verdict(30, 1.89, 0)),
        ([2.0, 2.0], False, 0.0, Verdict(10, 2.0, 1)),
        ([math.nan, 2.0, math.nan], False, 0.0, Verdict(20, 2.0, 1)),
    ],
)
def test_the_best_and_the_evaluations_without_gain(
    values: list[float], higher: bool, min_delta: float, expected: Verdict
) -> None:
    steps = [(10 * number, value) for number, value in enumerate(values, 1)]
    assert judge(steps, higher=higher, min_delta=min_delta) == expected


def test_there_is_no_best_before_the_first() -> None:
    assert judge([], higher=False, min_delta=0.0) is None


def test_figures_of_several_sets_are_joined_by_their_rows() -> None:
    found = {
        "easy": {"eval_loss": 1.0, "eval_mean_token_accuracy": 0.9, "eval_runtime": 3.0},
        "hard": {"eval_loss": 4.0, "eval_mean_token_accuracy": 0.3, "eval_runtime": 3.0},
    }
    figures = evaluations(easy=2, hard=1).joined(found)
    assert figures == {
        "loss": pytest.approx(2.0),
        "mean_token_accuracy": pytest.approx(0.7),
        "perplexity": pytest.approx(math.exp(2.0)),
        "easy/loss": 1.0,
        "easy/mean_token_accuracy": 0.9,
        "easy/perplexity": pytest.approx(math.e),
        "hard/loss": 4.0,
        "hard/mean_token_accuracy": 0.3,
        "hard/perplexity": pytest.approx(math.exp(4.0)),
    }


def test_one_set_has_its_figures_once_and_preferences_no_perplexity() -> None:
    assert evaluations(stage="dpo {}", only=5).joined({"only": {"eval_loss": 0.5}}) == {"loss": 0.5}


def test_a_loss_without_bounds_has_a_perplexity_without_bounds() -> None:
    assert evaluations(only=1).joined({"only": {"eval_loss": 1e6}})["perplexity"] == math.inf


@pytest.mark.parametrize(
    ("text", "losses", "ended"),
    [
        ("patience: 2", (3.0, 2.0, 2.1), False),
        ("patience: 2", (3.0, 2.0, 2.1, 2.2), True),
        ("patience: 1 min_delta: 0.5", (3.0, 2.4, 2.2), True),
        ("", (1.0, 2.0, 3.0, 4.0), False),
    ],
)
def test_it_ends_early_after_so_many_without_gain(text: str, losses: tuple[float, ...], ended: bool) -> None:
    assert evaluations(text, only=1).ended_early(after(*losses)) is ended
