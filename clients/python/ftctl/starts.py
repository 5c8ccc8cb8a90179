"""Specs to start from, one for each kind of training: short, commented, valid once its paths are true. Text only."""

from __future__ import annotations

from dataclasses import dataclass

LORA = """\
lora:
  rank: 16                    # size of the adapters
"""
ADAPTER_RATE = "learning_rate: 2e-4"
PREFERENCE_RATE = "learning_rate: 5e-5"


@dataclass(frozen=True, slots=True)
class _Start:
    """What a kind has of its own: heading, what a row of data is, stage, method, learning rate, micro-batch."""

    heading: str
    row: str
    stage: str = "sft: {}\n"
    method: str = LORA
    rate: str = ADAPTER_RATE
    micro_batch: int = 1


_STARTS = {
    "lora": _Start("LoRA: small adapters beside frozen weights", "messages: [{role, content}, …]"),
    "qlora": _Start(
        "QLoRA: adapters over a base model in 4 bits, for models that do not fit otherwise",
        "messages: [{role, content}, …]",
        method="qlora:\n  lora:\n    rank: 16                  # size of the adapters\n",
    ),
    "full": _Start(
        "Full fine-tuning: every weight moves; needs the most memory",
        "messages: [{role, content}, …]",
        method="full: {}\n",
        rate="learning_rate: 2e-5",
    ),
    "pretrain": _Start(
        "Pretraining on plain text, every weight",
        "text",
        stage="pretrain: {}\n",
        method="full: {}\n",
        rate="learning_rate: 2e-5",
    ),
    "dpo": _Start(
        "DPO: learn from pairs of a chosen and a rejected answer",
        "prompt, chosen, rejected",
        stage="dpo:\n  beta: 0.1                   # how strongly it is held to the reference\n",
        rate=PREFERENCE_RATE,
    ),
    "orpo": _Start(
        "ORPO: learn from pairs without a reference model",
        "prompt, chosen, rejected",
        stage="orpo: {}\n",
        rate=PREFERENCE_RATE,
    ),
    "kto": _Start(
        "KTO: learn from single answers that are good or bad",
        "prompt, completion, label",
        stage="kto: {}\n",
        rate=PREFERENCE_RATE,
        micro_batch=2,
    ),
    "reward": _Start(
        "A reward model, from pairs of a chosen and a rejected answer",
        "prompt, chosen, rejected",
        stage="reward: {}\n",
        rate=PREFERENCE_RATE,
    ),
    "grpo": _Start(
        "GRPO: the model writes answers, and what rewards like becomes likelier",
        "prompt, answer",
        stage="grpo:\n  generations: 8              # answers to each prompt\n  rewards:\n    - exact_answer: {}\n",
        rate=PREFERENCE_RATE,
        micro_batch=8,
    ),
}
KINDS = tuple(_STARTS)


def spec(kind: str) -> str:
    """The spec as YAML."""
    start = _STARTS[kind]
    return f"""\
# {start.heading}.
# `ftctl explain lora.rank` tells of a field, `ftctl schema` of all; check this with `ftctl validate -f FILE`.
name: my-{kind}
model:
  path: models/base           # a model's folder on the daemon's host
data:
  train:
    - path: rows.jsonl        # each line: {start.row}
  eval_split: 0.05            # held back, and evaluated after each epoch
  max_length: 2048            # tokens
{start.stage}{start.method}optimizer:
  {start.rate}
schedule:
  epochs: 3
batch:
  micro_batch: {start.micro_batch}              # rows in one forward pass
  global_batch: 8             # rows in one update
"""
