"""A spec from Python values: the stages and methods of the contract by the names people know, and `training` over them.

    spec = training(model="models/base", data="rows.jsonl", stage=DPO(beta=0.1), method=LoRA(rank=16), epochs=3)
    spec.training.compute.gradient_checkpointing = True  # what has no short name is set on the message
    ft.submit(spec, name="support-v3")

Stages and methods are the contract's own messages, typed and with its fields, so they cannot differ from it. What is
left out takes its default in the daemon; nothing here checks or decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finetuned.v1 import adapters_pb2, inference_pb2, job_pb2, online_pb2, training_pb2
from ftclient.fields import absolute
from ftclient.stored import Dataset

SFT = training_pb2.Sft
Pretrain = training_pb2.Pretrain
DPO = training_pb2.Dpo
Reward = training_pb2.Reward
KTO = training_pb2.Kto
ORPO = training_pb2.Orpo
CPO = training_pb2.Cpo
GRPO = online_pb2.Grpo
RLOO = online_pb2.Rloo
PPO = online_pb2.Ppo
Distill = online_pb2.Distill
Evaluate = inference_pb2.Evaluate
Export = inference_pb2.Export
Chat = inference_pb2.Chat

LoRA = training_pb2.Lora
QLoRA = training_pb2.Qlora
Full = training_pb2.Full
Freeze = training_pb2.Freeze
AdaLoRA = adapters_pb2.Adalora
VeRA = adapters_pb2.Vera
OFT = adapters_pb2.Oft
BOFT = adapters_pb2.Boft
IA3 = adapters_pb2.Ia3
PrefixTuning = adapters_pb2.PrefixTuning
PromptTuning = adapters_pb2.PromptTuning
PTuning = adapters_pb2.PTuning

Stage = SFT | Pretrain | DPO | Reward | KTO | ORPO | CPO | GRPO | RLOO | PPO | Distill | Evaluate | Export | Chat
Method = LoRA | QLoRA | Full | Freeze | AdaLoRA | VeRA | OFT | BOFT | IA3 | PrefixTuning | PromptTuning | PTuning
Source = str | os.PathLike[str] | Dataset | training_pb2.DataSource


def training(
    *,
    model: str | os.PathLike[str] | training_pb2.Model | None = None,
    data: Source | Iterable[Source] = (),
    eval_data: Source | Iterable[Source] = (),
    stage: Stage | None = None,
    method: Method | None = None,
    epochs: float | None = None,
    max_steps: int | None = None,
    learning_rate: float | None = None,
    micro_batch: int | None = None,
    global_batch: int | None = None,
    max_length: int | None = None,
    eval_split: float | None = None,
    seed: int | None = None,
) -> job_pb2.JobSpec:
    """The spec of a job. Relative paths start at the current folder; a Dataset is one that was uploaded.

    `epochs` are passes over the data, `max_steps` updates; batches are in rows, `max_length` in tokens, `eval_split` is
    a share of the rows. TypeError for a stage or method that is none.
    """
    spec = job_pb2.JobSpec()
    made = spec.training
    if model is not None:
        made.model.CopyFrom(
            model if isinstance(model, training_pb2.Model) else training_pb2.Model(path=_absolute(model))
        )
    made.data.train.extend(map(_source, _several(data)))
    made.data.eval.extend(map(_source, _several(eval_data)))
    for choice, chosen in (("stage", stage), ("method", method)):
        if chosen is not None:
            getattr(made, _member(choice, chosen)).CopyFrom(chosen)
    short = (
        (made.schedule, {"epochs": epochs, "max_steps": max_steps}),
        (made.optimizer, {"learning_rate": learning_rate}),
        (made.batch, {"micro_batch": micro_batch, "global_batch": global_batch}),
        (made.data, {"max_length": max_length, "eval_split": eval_split}),
        (made, {"seed": seed}),
    )
    for message, values in short:
        for name, value in values.items():
            if value is not None:
                setattr(message, name, value)
    return spec


def _member(choice: str, chosen: Any) -> str:
    """The field of the training that takes this message."""
    fields = training_pb2.TrainingSpec.DESCRIPTOR.oneofs_by_name[choice].fields
    found = next((field.name for field in fields if field.message_type is getattr(chosen, "DESCRIPTOR", None)), None)
    if found is None:
        raise TypeError(f"{chosen!r} is no {choice}; accepted: {', '.join(field.name for field in fields)}")
    return found


def _several(given: Source | Iterable[Source]) -> Iterable[Source]:
    return [given] if isinstance(given, str | os.PathLike | Dataset | training_pb2.DataSource) else given


def _source(given: Source) -> training_pb2.DataSource:
    if isinstance(given, training_pb2.DataSource):
        return given
    if isinstance(given, Dataset):
        return training_pb2.DataSource(dataset=given.name)
    return training_pb2.DataSource(path=_absolute(given))


def _absolute(path: str | os.PathLike[str]) -> str:
    return absolute(os.fspath(path), Path.cwd())
