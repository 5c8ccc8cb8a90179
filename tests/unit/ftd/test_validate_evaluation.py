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
        ({"training__evaluation": {"generation": {}}}, "evaluation.generation", f"is given, but {NOTHING}"),
        (
            {**SPLIT, "training__reward": {}, "training__evaluation": {"generation": {}}},
            "evaluation.generation",
            (
                "is given, but rows of reward have no answers to compare with; "
                "accepted with sft, dpo, kto, orpo, cpo or evaluate"
            ),
        ),
        (
            {**SPLIT, "training__evaluation": {"generation": {"topP": 0.9}}},
            "evaluation.generation.top_p",
            "is given, but nothing is drawn at temperature 0; give a temperature",
        ),
        (
            {**SPLIT, "training__evaluation": {"generation": {"stop": ["\n", ""]}}},
            "evaluation.generation.stop",
            "is ['\\n', '']; accepted is at most 16 different words, none of them empty",
        ),
        (
            {**SPLIT, "training__evaluation": {"generation": {"maxRows": 0}}},
            "evaluation.generation.max_rows",
            "is 0; accepted is at least 1",
        ),
        (
            {**SPLIT, "training__evaluation": {"generation": {"samples": 21}}},
            "evaluation.generation.samples",
            "is 21; accepted is 0 to 20",
        ),
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


def test_answers_have_figures_to_be_judged_by() -> None:
    generation = {"temperature": 0.7, "topP": 0.9, "stop": ["###"]}
    assert problems(spec(**SPLIT, training__evaluation={"metric": "rougeL", "generation": generation})) == {}
    assert "training.evaluation.metric" in problems(spec(**SPLIT, training__evaluation={"metric": "rougeL"}))


def test_sets_have_the_names_of_their_sources() -> None:
    sets = [{"path": "/d/a.jsonl", "name": "math"}, {"path": "/d/b.jsonl"}]
    for metric in ("math/loss", "1/loss"):
        assert problems(spec(training__data__eval=sets, training__evaluation={"metric": metric})) == {}
        split = {"training__data__train": sets, "training__data__eval_split": 0.1}
        assert problems(spec(**split, training__evaluation={"metric": metric})) == {}


def test_a_preference_is_judged_by_its_rewards() -> None:
    made = {**SPLIT, "training__dpo": {}, "training__evaluation": {"metric": "rewards/accuracies"}}
    assert problems(spec(**made)) == {}


def test_every_stage_says_what_its_evaluations_have() -> None:
    stages = set(Stage.__args__)
    assert Pretrain in stages
    assert stages <= FIGURES.keys()
