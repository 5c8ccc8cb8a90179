"""A tokenizer without a model: one token per byte and one for each special word, so that any template fits it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trl

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|user|>", "<|end|>", "<end_of_turn>")
TEMPLATES = Path(trl.__file__).parent / "chat_templates"


def byte_tokenizer(template: str | None = None, tokens: Sequence[str] = ()) -> Any:
    """A fast tokenizer with `template` as its chat template; `tokens` are further special words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",  # noqa: S106
        eos_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=[*SPECIAL[1:], *(token for token in tokens if token not in SPECIAL)],
    )
    fast.chat_template = template
    return fast


def template(name: str) -> str:
    """A chat template of a real model family, as TRL carries it."""
    return (TEMPLATES / f"{name}.jinja").read_text()
