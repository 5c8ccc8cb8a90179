"""Stages whose model writes the answers it is trained on: they learn what a reward asks for, and say how it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import losses, of_kind, steps, train

from finetuned.v1 import event_pb2
from fttrain import manifest
from fttrain.failure import Refused
from fttrain.stages.ppo import VALUE_HEAD

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# The reward asks for a full stop. Eight answers to an update.
STEPS = 'compute { padding_free: false } schedule { warmup_ratio: 0 name: "constant" max_steps: '
SMALL = "} batch { micro_batch: 8 global_batch: 8 } optimizer { learning_rate: 1e-2 } "
KINDS = {
    ("grpo", "lora"): "5" + SMALL + "grpo { beta: 0.01 } batch { global_batch: 16 } optimizer { learning_rate: 5e-3 }",
    ("rloo", "full"): "4" + SMALL + "optimizer { learning_rate: 1e-3 }",
    ("ppo", "lora"): "6" + SMALL,
}


@pytest.mark.parametrize(("stage", "method"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_the_reward_rises(
    stage: str,
    method: str,
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spec = support.resolved_spec(smol_nano, stage, method, STEPS + KINDS[stage, method])
    result = train(support.bootstrap(tmp_path, spec, rows["prompts"]))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    seen = steps(tmp_path)
    told = [step.extra for step in seen if "reward" in step.extra]
    assert told[-1]["reward"] > told[0]["reward"] + 0.3
    # One reward, of weight 1.
    assert all(each["rewards/ended/mean"] == pytest.approx(each["reward"]) for each in told)
    assert {"rewards/ended/std", "kl", "completions/mean_length", "completions/clipped_ratio"} <= told[-1].keys()
    assert told[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert told[-1]["kl"] > 0
    assert seen[-1].tokens > seen[0].tokens > 0
    manifest.verify(tmp_path / "output")
    [sample] = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert sample["step"] == 1
    assert sample["prompt"].endswith("<|im_start|>assistant\n")
    assert sample["rewards"] == {"ended": float("." in sample["completion"])}


def test_a_student_comes_nearer_to_its_teacher(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    teacher = noisy(smol_nano, tmp_path / "teacher")
    changes = f'{STEPS}6{SMALL} distill {{ teacher {{ path: "{teacher}" }} }} optimizer {{ learning_rate: 4e-4 }}'
    train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, "distill", "full", changes), rows["prompts"]))
    assert losses(tmp_path)[-1] < 0.7 * losses(tmp_path)[0]
    assert "completions/mean_length" in steps(tmp_path)[-1].extra


def noisy(model: Path, folder: Path) -> Path:
    """The model with other weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in loaded.model.layers.parameters():
            weight += 0.3 * weight.std() * torch.randn(weight.shape, generator=generator) if weight.dim() > 1 else 0
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reward_model_of_ours_judges(method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    """Both shapes a `reward` job leaves: an adapter with a head, and a whole model."""
    judge = support.resolved_spec(smol_nano, "reward", method, "schedule { max_steps: 1 warmup_ratio: 0 }")
    train(support.bootstrap(tmp_path / "judge", judge, rows["reward"]))
    base = f'base_path: "{smol_nano}"' if method == "lora" else ""
    changes = (
        f'{STEPS}1{SMALL} ppo {{ beta: 0 rewards {{ name: "judge" weight: 0.5 '
        f'reward_model {{ weights {{ path: "{tmp_path / "judge" / "output"}" {base} }} }} }} }} '
        'evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 3 metric: "reward" higher_is_better: true }'
    )
    spec = support.resolved_spec(smol_nano, "ppo", "lora", changes)
    train(support.bootstrap(tmp_path / "ppo", spec, rows["prompts"]))

    [step] = steps(tmp_path / "ppo")
    judged, ruled = step.extra["rewards/judge/mean"], step.extra["rewards/ended/mean"]
    assert judged != 0
    assert step.extra["reward"] == pytest.approx(0.5 * judged + ruled)
    [evaluation] = of_kind(support.events(tmp_path / "ppo"), "evaluation")
    assert evaluation.value == evaluation.extra["reward"]
    assert evaluation.best


def test_a_language_model_is_no_reward_model(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    reward = f'rewards {{ name: "judge" weight: 1 reward_model {{ weights {{ path: "{smol_nano}" }} }} }}'
    spec = support.resolved_spec(smol_nano, "grpo", "lora", f"{STEPS}1{SMALL} grpo {{ {reward} }}")
    with pytest.raises(Refused, match=r"lack 1 tensors of the model, e\.g\. score\.weight"):
        train(support.bootstrap(tmp_path, spec, rows["prompts"]))


# Where the checkpoint is: of grpo within the second epoch, of ppo where the next answers are due.
@pytest.mark.parametrize(("stage", "at", "rows_of_update"), [("grpo", 3, 16), ("ppo", 2, 4)])
def test_a_resumed_run_goes_on_as_one_never_stopped(
    stage: str, at: int, rows_of_update: int, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    """The prompts that are left, the chance their answers are drawn by, and the value head are as they were."""
    changes = (
        f"{STEPS}4}} checkpoints {{ cadence: CADENCE_STEPS every_steps: {at} keep: 2 }} "
        f"batch {{ micro_batch: 4 global_batch: {rows_of_update} }} optimizer {{ learning_rate: 1e-3 }}"
    )
    spec = support.resolved_spec(smol_nano, stage, "lora", changes)
    train(support.bootstrap(tmp_path, spec, rows["prompts"]))
    train(support.bootstrap(tmp_path, spec, rows["prompts"], attempt=2, resume_from=f"checkpoint-{at}"))

    first, again = steps(tmp_path)[at:4], steps(tmp_path)[4:]
    assert [step.step for step in again] == list(range(at + 1, 5))
    assert [step.loss for step in again] == pytest.approx([step.loss for step in first], rel=1e-5, abs=1e-7)
    assert [step.grad_norm for step in again] == pytest.approx([step.grad_norm for step in first], rel=1e-4)
    saved = (tmp_path / "checkpoints" / "checkpoint-4" / VALUE_HEAD).exists()
    assert saved == (stage == "ppo")
    assert not (tmp_path / "output" / VALUE_HEAD).exists()


def test_fewer_prompts_than_an_update_takes_are_refused(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    changes = STEPS + "1} batch { micro_batch: 8 global_batch: 64 }"
    with pytest.raises(Refused, match=r"data\.train has 8 usable prompts, and an update takes 16"):
        train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, "grpo", "lora", changes), rows["prompts"]))
