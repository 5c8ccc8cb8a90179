"""Evaluation by what the model writes: told before and after, scored, and left beside the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.training import of_kind, train

from fttrain.scores import scores

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LAST = """
evaluation { cadence: CADENCE_STEPS every_steps: 8 micro_batch: 3 metric: "rougeL" higher_is_better: true }
evaluation { generation { max_rows: 5 max_new_tokens: 12 temperature: 0 samples: 2 } }
"""


@pytest.fixture(scope="module")
def answers(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer

    rows = support.sft_rows(AutoTokenizer.from_pretrained(smol_nano))
    return support.prepare(tmp_path_factory.mktemp("answers"), rows[:2] * 4, learnt=rows[:2], all=rows)


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "generated_predictions.jsonl").read_text().splitlines()]


def test_what_is_learnt_is_written_and_scored(smol_nano: Path, answers: Path, tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, "sft", "full", f"{LAST} optimizer {{ learning_rate: 1e-3 }}")
    train(support.bootstrap(tmp_path, spec, answers))

    before, after = of_kind(support.events(tmp_path), "answers")
    assert (before.step, after.step) == (0, 8)
    assert [(each.set, each.row) for each in after.answers] == [("learnt", 1), ("learnt", 2), ("all", 1), ("all", 2)]
    question, answer = support.QUESTIONS[0]
    wanted = [expected for _, expected in support.QUESTIONS[:2]]
    assert after.answers[0].expected == answer
    assert after.answers[0].prompt.endswith(f"{question}<|im_end|>\n<|im_start|>assistant\n")

    (evaluation,) = of_kind(support.events(tmp_path), "evaluation")
    figures = evaluation.extra
    assert evaluation.value == figures["rougeL"] > 0
    # Two answers are all it was taught; at least one of them it knows nearly by heart.
    assert figures["learnt/rougeL"] > 40 > scores([each.generated for each in before.answers[:2]], wanted)["rougeL"]
    assert figures["learnt/exact_match"] in (0, 50, 100)
    assert figures["learnt/rougeL"] > figures["rougeL"] > figures["all/rougeL"]

    lines = predictions(tmp_path / "output")
    assert [(line["set"], line["row"]) for line in lines] == [
        ("learnt", 1),
        ("learnt", 2),
        *(("all", n) for n in range(1, 6)),
    ]
    assert lines == predictions(tmp_path)
    assert [line["before"] for line in lines[:2]] == [each.generated for each in before.answers[:2]]
    assert [line["predict"] for line in lines[:2]] == [each.generated for each in after.answers[:2]]
    assert lines[0]["before"] != lines[0]["predict"]
    assert lines[0]["label"] == answer


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_preferences_are_answered_like_the_good_answer(
    stage: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    from datasets import load_from_disk

    trained = list(load_from_disk(str(rows[stage] / "train")))
    prepared = support.prepare(tmp_path / "rows", trained, trained[:4])
    changes = """
    schedule { max_steps: 1 } evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 2 metric: "loss" }
    evaluation { generation { max_rows: 2 max_new_tokens: 4 temperature: 0.7 top_p: 0.9 samples: 2 } }
    evaluation { generation { stop: "." stop: "\\n" } }
    """
    run = tmp_path / "run"
    train(support.bootstrap(run, support.resolved_spec(smol_nano, stage, "lora", changes), prepared))
    before, after = of_kind(support.events(run), "answers")
    wanted = [answer.partition(".")[0] for _, answer in support.QUESTIONS[:2]]
    if stage == "kto":
        # Its rows are good and bad ones by turns.
        assert [each.row for each in after.answers] == [1, 3]
    assert [each.expected for each in after.answers] == wanted
    assert all("." not in each.generated and "\n" not in each.generated for each in [*before.answers, *after.answers])


def test_answers_take_nothing_from_the_trainings_chance(smol_nano: Path, answers: Path, tmp_path: Path) -> None:
    """Dropout draws the same numbers whether answers are drawn in between or not."""
    each_step = """
    schedule { max_steps: 3 } lora { dropout: 0.5 }
    evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 3 metric: "loss" }
    """
    drawn = "evaluation { generation { max_rows: 1 max_new_tokens: 3 temperature: 1 top_p: 1 samples: 0 } }"
    for run, changes in (("without", each_step), ("with", each_step + drawn)):
        spec = support.resolved_spec(smol_nano, changes=changes)
        train(support.bootstrap(tmp_path / run, spec, answers))
    assert support.losses(tmp_path / "with") == support.losses(tmp_path / "without")
    assert list(of_kind(support.events(tmp_path / "with"), "answers")) == []
