"""What TRL's experimental trainers of pairs, ORPO and CPO, need beside their losses: prepared rows, a count of tokens.

They tokenise what they are given, by rules older than those of TRL's other trainers, and count no tokens. It must never
import them: to do so takes long, and is for the jobs that use them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from fttrain import arguments
from fttrain.stages.parts import Ours, Parts


class TokenisedPairs(Dataset[dict[str, list[int]]]):
    """Prepared pairs as the collator of these trainers takes them, made as they are read."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        row = self._rows[index]
        prompt = row["prompt_ids"]
        cells: dict[str, list[int]] = {}
        for name in ("chosen", "rejected"):
            answer = row[f"{name}_ids"]
            cells[f"{name}_input_ids"] = prompt + answer
            cells[f"{name}_attention_mask"] = [1] * (len(prompt) + len(answer))
            cells[f"{name}_labels"] = [-100] * len(prompt) + answer
        return cells

    def map(self, *_args: Any, **_kwargs: Any) -> TokenisedPairs:
        """The trainers tokenise by this; it is done."""
        return self


class PairTrainer(Ours):
    """Put before the class of such a trainer."""

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        masks = torch.cat([inputs["chosen_attention_mask"].flatten(), inputs["rejected_attention_mask"].flatten()])
        super()._track_num_input_tokens({"input_ids": masks, "attention_mask": masks})  # type: ignore[misc]


def config(parts: Parts) -> dict[str, Any]:
    """Arguments that these trainers share."""
    return arguments.common(parts.spec, parts.checkpoints) | {
        "disable_dropout": parts.disables_dropout,
        # The model takes none of the rows' columns by their names.
        "remove_unused_columns": False,
        "generate_during_eval": False,
    }


def for_trainer(parts: Parts, stage: str) -> dict[str, Any]:
    """What is passed to the trainer of a stage. Says in a notice that TRL makes no promise about it."""
    parts.report.notice(f"{stage} is trained by a trainer that TRL calls experimental: another release may change it")
    if parts.tokenizer.pad_token is None:
        parts.tokenizer.pad_token = parts.tokenizer.eos_token
    return parts.for_trainer(TokenisedPairs)
