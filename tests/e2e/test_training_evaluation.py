"""Trainings that are judged: by set, until there is no more gain, and with the best weights as their output."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.support import training as support
from tests.support.training import of_kind, train

from finetuned.v1 import event_pb2
from fttrain import manifest

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

EACH_STEP = 'evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 2 metric: "loss" higher_is_better: false }'


@pytest.fixture(scope="module")
def answers(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows to train on, and two sets: of the same rows, and of others, which are only unlearnt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    rows, texts = support.sft_rows(tokenizer), support.text_rows(tokenizer)
    folder = tmp_path_factory.mktemp("answers")
    return support.prepare(folder, rows, same=rows[:2], others=texts[4:5])


def evaluations(run: Path) -> list[Any]:
    return list(of_kind(support.events(run), "evaluation"))


def notices(run: Path) -> list[str]:
    return [notice.text for notice in of_kind(support.events(run), "notice")]


def test_each_set_has_its_figures(smol_nano: Path, answers: Path, tmp_path: Path) -> None:
    spec = support.resolved_spec(smol_nano, changes=f"schedule {{ max_steps: 2 }} {EACH_STEP}")
    train(support.bootstrap(tmp_path, spec, answers))

    told = evaluations(tmp_path)
    assert [each.step for each in told] == [1, 2]
    for each in told:
        extra = each.extra
        assert each.loss == pytest.approx((2 * extra["same/loss"] + extra["others/loss"]) / 3)
        assert extra["perplexity"] == pytest.approx(math.exp(each.loss))
        assert extra["others/perplexity"] == pytest.approx(math.exp(extra["others/loss"]))
        assert 0 <= extra["same/mean_token_accuracy"] <= 1
        assert each.value == each.loss
        assert each.seconds > 0


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_ends_early_and_the_best_weights_are_the_output(
    method: str, smol_nano: Path, answers: Path, tmp_path: Path
) -> None:
    """The higher, the better: of a loss that falls the first is the best."""
    changes = f"""
    {EACH_STEP} evaluation {{ metric: "same/loss" higher_is_better: true patience: 2 min_delta: 0 }}
    checkpoints {{ keep: 1 keep_best: true }} output {{ weights: OUTPUT_WEIGHTS_BEST }}
    schedule {{ warmup_ratio: 0 }} optimizer {{ learning_rate: 3e-4 }}
    """
    message = support.bootstrap(tmp_path, support.resolved_spec(smol_nano, "sft", method, changes), answers)
    result = train(message)

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert [(each.step, each.best) for each in evaluations(tmp_path)] == [(1, True), (2, False), (3, False)]
    assert any("ended early at step 3: 2 evaluations in a row" in text for text in notices(tmp_path))
    kept = tmp_path / "checkpoints" / "checkpoint-1"
    manifest.verify(kept)
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    expected, found = load_file(kept / name), load_file(tmp_path / "output" / name)
    assert expected.keys() == found.keys()
    assert all(weight.equal(found[key]) for key, weight in expected.items())


def test_an_attempt_after_the_early_end_only_writes_the_output(smol_nano: Path, answers: Path, tmp_path: Path) -> None:
    changes = f"""
    {EACH_STEP} evaluation {{ metric: "others/loss" patience: 1 min_delta: 100 }}
    checkpoints {{ cadence: CADENCE_STEPS every_steps: 1 keep_best: true }}
    """
    spec = support.resolved_spec(smol_nano, changes=changes)
    train(support.bootstrap(tmp_path, spec, answers))
    assert [step.step for step in support.steps(tmp_path)] == [1, 2]

    again = support.bootstrap(tmp_path, spec, answers, attempt=2, resume_from="checkpoint-2")
    assert train(again).outcome == event_pb2.OUTCOME_COMPLETED
    assert [step.step for step in support.steps(tmp_path)] == [1, 2]
    manifest.verify(tmp_path / "output")


def test_the_best_stays_beside_the_newest(smol_nano: Path, answers: Path, tmp_path: Path) -> None:
    changes = f"""
    {EACH_STEP} evaluation {{ metric: "same/loss" higher_is_better: true }} schedule {{ max_steps: 4 }}
    checkpoints {{ cadence: CADENCE_STEPS every_steps: 1 keep: 1 keep_best: true }}
    """
    train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, changes=changes), answers))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [each.best for each in evaluations(tmp_path)] == [True, False, False, False]
    assert names == ["checkpoint-1", "checkpoint-4"]
