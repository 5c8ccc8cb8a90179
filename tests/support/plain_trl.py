"""Trainings as TRL's own documentation writes them, with what a user would pass to get the tests' resolved spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.training import QUESTIONS, REJECTED, turn


def arguments(folder: Path, **more: Any) -> dict[str, Any]:
    """For any configuration."""
    return {
        "output_dir": str(folder),
        "learning_rate": 1e-3,
        "max_steps": 8,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 42,
    } | more


def losses(stage: str, model: Path, folder: Path, *, lora: bool) -> list[float]:
    """The loss of every update."""
    trainer = _TRAINERS[stage](model, folder, _lora(stage) if lora else None)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def _lora(stage: str) -> Any:
    from peft import LoraConfig

    task = "SEQ_CLS" if stage == "reward" else "CAUSAL_LM"
    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type=task)


def _sft(model: Path, folder: Path, adapter: Any) -> Any:
    from trl import SFTConfig, SFTTrainer

    data = [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in QUESTIONS]
    return SFTTrainer(args=SFTConfig(**arguments(folder)), **_given(model, data, adapter))


def _dpo(model: Path, folder: Path, adapter: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    return DPOTrainer(args=DPOConfig(**arguments(folder, beta=0.1)), **_given(model, _pairs(), adapter))


def _reward(model: Path, folder: Path, adapter: Any) -> Any:
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    set_seed(42)
    scoring = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype="float32")
    given = _given(model, _pairs(), adapter) | {"model": scoring}
    return RewardTrainer(args=RewardConfig(**arguments(folder)), **given)


def _kto(model: Path, folder: Path, adapter: Any) -> Any:
    from trl import KTOConfig, KTOTrainer

    data = [
        {"prompt": turn("user", q), "completion": turn("assistant", text), "label": text == a}
        for q, a in QUESTIONS
        for text in (a, REJECTED)
    ]
    given = _given(model, data, adapter)
    # TRL takes the rows in order and leaves it to its user to mix them.
    given["train_dataset"] = given["train_dataset"].shuffle(seed=42)
    return KTOTrainer(args=KTOConfig(**arguments(folder, beta=0.1)), **given)


def _orpo(model: Path, folder: Path, adapter: Any) -> Any:
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config = ORPOConfig(**arguments(folder, beta=0.1, remove_unused_columns=False))
    return ORPOTrainer(args=config, **_given(model, _texts(model), adapter))


def _cpo(model: Path, folder: Path, adapter: Any) -> Any:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    config = CPOConfig(**arguments(folder, beta=0.1, remove_unused_columns=False))
    return CPOTrainer(args=config, **_given(model, _texts(model), adapter))


_TRAINERS = {"sft": _sft, "dpo": _dpo, "reward": _reward, "kto": _kto, "orpo": _orpo, "cpo": _cpo}


def _given(model: Path, data: list[Any], adapter: Any) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return {
        "model": AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        "train_dataset": Dataset.from_list(data),
        "processing_class": AutoTokenizer.from_pretrained(model),
        "peft_config": adapter,
    }


def _pairs() -> list[dict[str, Any]]:
    return [
        {"prompt": turn("user", q), "chosen": turn("assistant", a), "rejected": turn("assistant", REJECTED)}
        for q, a in QUESTIONS
    ]


def _texts(model: Path) -> list[dict[str, str]]:
    """The pairs as text that ends with the end of the turn, which these trainers add to what does not."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        {
            "prompt": tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False),
            "chosen": row["chosen"][0]["content"] + tokenizer.eos_token,
            "rejected": row["rejected"][0]["content"] + tokenizer.eos_token,
        }
        for row in _pairs()
    ]
