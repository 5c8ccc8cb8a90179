"""Two real optimizer updates of a configuration on fake tensors: our recipe where it trains the stage, else TRL's own.

The second update has the true peak, since the optimizer's states appear in the first. It must build the trainers as
`fttrain` does; what is passed to those of stages we do not train yet are `fttrain`'s arguments too.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from datasets import Dataset, disable_progress_bars
from peft import get_peft_model
from tests.oracle import models
from tests.oracle.configurations import Configuration
from tests.oracle.cuda import fake_gpu
from tests.oracle.tracker import Peak
from transformers import BitsAndBytesConfig, PrinterCallback, Trainer, TrainingArguments, default_data_collator
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_report_pb2, training_pb2
from ftd.spec import DeviceKind
from ftd.wire import to_proto
from fttrain import arguments, methods, recipe
from fttrain.report import Report
from fttrain.rows import Rows

_TOKEN = 1


def peak_of(each: Configuration) -> Peak:
    """The most bytes alive during training, and the operation that made it so many."""
    training = each.training()
    # On fake tensors the CPU stands for the GPU.
    on_cpu = replace(training, resources=replace(training.resources, device=DeviceKind.CPU))
    message = to_proto(on_cpu, training_pb2.TrainingSpec)
    logging.set_verbosity_error()
    disable_progress_bars()
    with TemporaryDirectory() as folder, fake_gpu() as storages:
        trainer = _ours(each, message, folder) if each.is_ours else _theirs(each, message, Path(folder))
        trainer.remove_callback(PrinterCallback)
        storages.reset()
        recipe.run_loop(trainer, None)
        return storages.peak


def _ours(each: Configuration, message: training_pb2.TrainingSpec, folder: str) -> Any:
    def load_model(bootstrap: trainer_pb2.Bootstrap, quantization: BitsAndBytesConfig | None) -> Any:
        return _model(each, bootstrap.spec, quantization)

    bootstrap = trainer_pb2.Bootstrap(job_id="jabcdefghk", attempt=1, run_directory=folder, spec=message)
    rows = Rows(_rows(each), None, data_report_pb2.DataReport())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "load_model", load_model)
        patch.setattr(recipe, "load_tokenizer", lambda _: models.tokenizer())
        trainer, _ = recipe.build_trainer(bootstrap, rows, Report(None, 1))
    return trainer


def _theirs(each: Configuration, message: training_pb2.TrainingSpec, folder: Path) -> Any:
    method = methods.of(message)
    model = _model(each, message, method.quantization(message))
    adapter = method.adapter(message)
    if each.loss == "logits":
        return _classic(each, model, adapter, _arguments(TrainingArguments, message, folder))
    config = _arguments(GRPOConfig, message, folder, num_generations=each.batch, max_completion_length=each.length - 1)
    return _Grpo(
        model=model,
        args=config,
        train_dataset=_rows(each),
        processing_class=models.tokenizer(),
        peft_config=adapter,
        reward_funcs=lambda **_: [0.0],
    )


def _classic(each: Configuration, model: Any, adapter: Any, config: TrainingArguments) -> Trainer:
    if adapter:
        model = get_peft_model(model, adapter)
        if config.activation_checkpointing:
            model.enable_input_require_grads()
    return Trainer(model, config, default_data_collator, _rows(each))


def _arguments(cls: Any, message: training_pb2.TrainingSpec, folder: Path, **more: Any) -> Any:
    """Those of our arguments that this trainer has."""
    known = {field.name for field in fields(cls)}
    ours = {name: value for name, value in arguments.common(message, folder).items() if name in known}
    return cls(**ours | more)


def _model(each: Configuration, message: training_pb2.TrainingSpec, quantization: BitsAndBytesConfig | None) -> Any:
    dtype = methods.DTYPES[message.model.dtype]
    attention = "eager" if each.config["model_type"] == "gemma2" else "sdpa"
    return models.build(each.config, dtype, attention, quantization, reward=each.stage == "reward")


def _rows(each: Configuration) -> Dataset:
    """As many rows as the updates take and one more, each as long as may be."""
    tokens = [_TOKEN] * each.length
    row: dict[str, Any] = {"input_ids": tokens, "labels": tokens}
    match each.stage:
        case "dpo" | "orpo" | "cpo":
            row = {"prompt_ids": tokens[:1], "chosen_ids": tokens[1:], "rejected_ids": tokens[1:]}
        case "kto":
            row = {"prompt_ids": tokens[:1], "completion_ids": tokens[1:], "label": True}
        case "reward":
            row = {"chosen_ids": tokens, "rejected_ids": tokens}
        case "grpo":
            row = {"prompt": "<word>"}
    if each.loss == "logits":
        row["attention_mask"] = tokens
    return Dataset.from_list([row] * (2 * each.batch * each.accumulation + 1))


class _Grpo(GRPOTrainer):  # type: ignore[misc]
    """GRPO whose answers are there already: writing them depends on values, which fake tensors do not have."""

    def _generate_and_score_completions(self, inputs: list[Any]) -> dict[str, torch.Tensor]:
        rows, length = len(inputs), self.args.max_completion_length
        prompt, completion = (torch.ones((rows, each), dtype=torch.int64) for each in (1, length))
        return {
            "prompt_ids": prompt,
            "prompt_mask": prompt,
            "completion_ids": completion,
            "completion_mask": completion,
            "advantages": torch.ones(rows),
            "num_items_in_batch": torch.tensor(rows * length),
        }
