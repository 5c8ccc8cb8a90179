"""What a user reads for mistakes about evaluations, the best of them, and what is left of a training."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ftd.test_validate import problems, spec

from ftd.stages import Pretrain, Stage
from ftd.validate.evaluation import FIGURES

SPLIT: dict[str, Any] = {"training__data__eval_split": 0.1}
SETS: dict[str, Any] = {"training__data__eval": [{"path": "/d/a.jsonl"}, {"path": "/d/b.jsonl"}]}
NOTHING = "nothing is evaluated; leave it out, or give data.eval or data.eval_split"

UNKNOWN = "which no evaluation of this training has; accepted is loss, perplexity or mean_token_accuracy"


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"training__evaluation": {"metric": "loss"}}, "evaluation.metric", f"is given, but {NOTHING}"),
        ({"training__evaluation": {"patience": 3}}, "evaluation.patience", f"is given, but {NOTHING}"),
        (
            {**SPLIT, "training__evaluation": {"cadence": "CADENCE_NEVER", "patience": 3}},
            "evaluation.patience",
            f"is given, but {NOTHING}",
        ),
        ({"training__checkpoints": {"keepBest": True}}, "checkpoints.keep_best", f"is on, but {NOTHING}"),
        ({"training__output": {"weights": "OUTPUT_WEIGHTS_BEST"}}, "output.weights", f"is best, but {NOTHING}"),
        (
            {
                **SPLIT,
                "training__output": {"weights": "OUTPUT_WEIGHTS_BEST"},
                "training__checkpoints": {"keepBest": False},
            },
            "checkpoints.keep_best",
            "is off, but output.weights is best; accepted is true",
        ),
        (
            {**SPLIT, "training__evaluation": {"metric": "accuracy"}},
            "evaluation.metric",
            f"is 'accuracy', {UNKNOWN}",
        ),
        (
            {**SPLIT, "training__evaluation": {"metric": "1/loss"}},
            "evaluation.metric",
            f"is '1/loss', {UNKNOWN}",
        ),
        (
            {**SPLIT, "training__evaluation": {"minDelta": 0.1}},
            "evaluation.min_delta",
            "is given, but the training never ends early; accepted with evaluation.patience",
        ),
        ({**SPLIT, "training__evaluation": {"patience": 0}}, "evaluation.patience", "is 0; accepted is at least 1"),
        (
            {**SPLIT, "training__evaluation": {"patience": 1, "minDelta": -0.1}},
            "evaluation.min_delta",
            "is -0.1; accepted is 0 or more",
        ),
    ],
)
def test_a_mistake_is_named_with_what_would_be_accepted(changes: dict[str, Any], field: str, expected: str) -> None:
    assert problems(spec(**changes)) == {f"training.{field}": expected}


@pytest.mark.parametrize("metric", ["loss", "perplexity", "0/mean_token_accuracy", "1/loss"])
def test_figures_of_each_of_several_sets_are_taken(metric: str) -> None:
    assert problems(spec(**SETS, training__evaluation={"metric": metric, "patience": 2, "minDelta": 0.01})) == {}


def test_a_preference_is_judged_by_its_rewards() -> None:
    made = {**SPLIT, "training__dpo": {}, "training__evaluation": {"metric": "rewards/accuracies"}}
    assert problems(spec(**made)) == {}


def test_every_stage_says_what_its_evaluations_have() -> None:
    stages = set(Stage.__args__)
    assert Pretrain in stages
    assert stages <= FIGURES.keys()
