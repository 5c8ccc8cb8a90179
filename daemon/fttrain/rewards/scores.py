"""The scores of a reward model: one number for a prompt with its answer. It must never train it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

_ROWS_AT_ONCE = 8


class Scores:
    """A frozen model with a head of one number, and the tokenizer whose ids it reads."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model
        self._padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # It takes the score at the last token that is none of these.
        model.config.get_text_config().pad_token_id = self._padding

    @torch.no_grad()
    def __call__(self, rows: Sequence[list[int]]) -> list[float]:
        """The score of each row of token ids."""
        return [
            score for start in range(0, len(rows), _ROWS_AT_ONCE) for score in self._of(rows[start:][:_ROWS_AT_ONCE])
        ]

    def _of(self, rows: Sequence[list[int]]) -> list[float]:
        ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=self._padding)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        device = self._model.device
        scores = self._model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[:, 0]
        return [float(score) for score in scores]
