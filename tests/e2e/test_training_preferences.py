"""What is peculiar to the stages of preferences: what they report and say, and what is left that can be loaded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import losses, of_kind, steps, train

from finetuned.v1 import event_pb2

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHORT = "schedule { max_steps: 2 warmup_ratio: 0 } optimizer { learning_rate: 1e-4 } "
EVALUATED = "evaluation { cadence: CADENCE_STEPS every_steps: 2 micro_batch: 2 } "
METRICS = {
    "reward": {"accuracy", "margin", "mean_reward", "min_reward", "max_reward"},
    "kto": {"kl", "rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"},
    "orpo": {"rewards/margins", "rewards/accuracies", "nll_loss", "log_odds_ratio", "log_odds_chosen"},
    "cpo": {"rewards/margins", "rewards/accuracies", "nll_loss"},
}


@pytest.fixture
def evaluated(smol_nano: Path, tmp_path: Path) -> dict[str, Path]:
    """Rows of each stage that are evaluated as well."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    pairs = support.preference_rows(tokenizer)
    made = {
        "reward": support.whole_rows(tokenizer),
        "kto": support.labelled_rows(tokenizer),
        "orpo": pairs,
        "cpo": pairs,
    }
    return {stage: support.prepare(tmp_path / stage, rows, rows[:4]) for stage, rows in made.items()}


@pytest.mark.parametrize("stage", METRICS)
def test_metrics_have_the_trainer_s_names(
    stage: str, smol_nano: Path, evaluated: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    spec = support.resolved_spec(smol_nano, stage, "lora", SHORT + EVALUATED)
    train(support.bootstrap(run, spec, evaluated[stage]))
    told = support.events(run)
    last = steps(run)[-1]
    assert METRICS[stage] <= set(last.extra)
    # Two updates of four rows each, no padding counted; of a pair both sequences.
    assert last.tokens > 2 * 4 * 10
    assert last.tokens_per_second > 0
    (evaluation,) = of_kind(told, "evaluation")
    assert math.isfinite(evaluation.loss)
    assert evaluation.extra
    notices = " ".join(notice.text for notice in of_kind(told, "notice"))
    assert ("experimental" in notices) == (stage in ("orpo", "cpo"))


@pytest.mark.parametrize("method", ["lora", "full", "freeze"])
def test_a_reward_model_can_be_loaded_and_scores(
    method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    spec = support.resolved_spec(smol_nano, "reward", method, "optimizer { learning_rate: 1e-3 }")
    train(support.bootstrap(tmp_path, spec, rows["reward"]))
    output = tmp_path / "output"
    tokenizer = AutoTokenizer.from_pretrained(output)
    if method == "lora":
        padding = tokenizer.pad_token_id
        base = AutoModelForSequenceClassification.from_pretrained(smol_nano, num_labels=1, pad_token_id=padding)
        model = PeftModel.from_pretrained(base, str(output))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(output)
        assert model.config.num_labels == 1
    card = (output / "README.md").read_text()
    assert "AutoModelForSequenceClassification" in card
    assert 'pipeline_tag: "text-classification"' in card
    wins = 0
    for row in load_from_disk(str(rows["reward"] / "train")):
        with torch.no_grad():
            chosen, rejected = (
                float(model.eval()(input_ids=torch.tensor([row[name]])).logits)
                for name in ("chosen_ids", "rejected_ids")
            )
        wins += chosen > rejected
    assert wins >= 6


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_reward_model_s_head_stays_in_fp32(
    method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    changes = SHORT + "compute { precision: DTYPE_BF16 } model { dtype: DTYPE_BF16 }"
    spec = support.resolved_spec(smol_nano, "reward", method, changes)
    train(support.bootstrap(tmp_path, spec, rows["reward"]))
    saved = load_file(tmp_path / "output" / "adapter_model.safetensors")
    (head,) = (weight for name, weight in saved.items() if "score" in name)
    assert str(head.dtype) == "torch.float32"


def test_kto_says_when_one_label_outweighs_the_other(smol_nano: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    labelled = support.labelled_rows(AutoTokenizer.from_pretrained(smol_nano))
    uneven = support.prepare(tmp_path / "rows", [row for row in labelled if row["label"]] + labelled[:4])
    spec = support.resolved_spec(smol_nano, "kto", "lora", SHORT)
    train(support.bootstrap(tmp_path / "run", spec, uneven))
    (notice,) = of_kind(support.events(tmp_path / "run"), "notice")
    assert notice.text.startswith("10 good and 2 bad answers weigh 10 to 2; from 1 to 1 up to 4 to 3 is advised")


@pytest.mark.parametrize("stage", ["reward", "kto", "orpo"])
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(
    stage: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    saving = "checkpoints { cadence: CADENCE_STEPS every_steps: 2 keep: 2 } schedule { max_steps: 4 } "
    spec = support.resolved_spec(smol_nano, stage, "lora", saving + "optimizer { learning_rate: 5e-4 }")
    train(support.bootstrap(tmp_path, spec, rows[stage]))
    whole = losses(tmp_path)
    train(support.bootstrap(tmp_path, spec, rows[stage], attempt=2, resume_from="checkpoint-2"))
    assert losses(tmp_path)[4:] == pytest.approx(whole[2:], rel=1e-5)


@pytest.mark.parametrize("stage", ["reward", "kto", "cpo"])
def test_it_can_be_tried_out(stage: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    result = train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, stage), rows[stage], probe=True))
    assert result.outcome == event_pb2.OUTCOME_COMPLETED
