"""A model's tokenizer as a GGUF file has it: tokens, their kinds, merges, and the name of the rule that splits words.

Readers of GGUF files know a few rules by name and would split by another one without a word, so a tokenizer whose rule
is not known here is refused. It must never write a token under another id than the model has.
"""

from __future__ import annotations

import json
from typing import Any

from gguf import GGUFWriter, TokenType

from finetuned.v1 import event_pb2
from fttrain.failure import Refused

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# What llama.cpp calls a rule, by the regular expression that tokenizer.json has.
_SPLITS = {
    rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_SHORT}|{_LETTERS}|\p{{N}}|{_REST}": "qwen2",
}


def splitting_rule(tokenizer: Any) -> str:
    """The name that GGUF readers know a tokenizer's splitting rule by. Raises Refused if they know none."""
    content = _read(tokenizer)
    found = content.get("pre_tokenizer") or {}
    parts = found.get("pretokenizers", [found])
    kinds = [part.get("type") for part in parts]
    name = None
    if content["model"].get("type", "BPE") == "BPE" and kinds and kinds[-1] == "ByteLevel":
        match kinds:
            case ["ByteLevel"]:
                name = "gpt-2"
            case ["Digits", "ByteLevel"] if parts[0].get("individual_digits"):
                name = "smollm"
            case ["Split", "ByteLevel"]:
                name = _SPLITS.get(parts[0]["pattern"].get("Regex"))
    if name is None:
        raise refused("its tokenizer splits words by a rule that GGUF readers have no name for")
    return name


def add(writer: GGUFWriter, tokenizer: Any, size: int) -> None:
    """Adds a byte-level BPE tokenizer to a file, for a model with `size` rows of embeddings."""
    content = _read(tokenizer)
    tokens, kinds = _tokens(content, size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting_rule(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    # A merge is a pair since tokenizers 0.20.
    merges = [each if isinstance(each, str) else " ".join(each) for each in content["model"]["merges"]]
    writer.add_token_merges(merges)
    for number, add_id in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add_id(number)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tokens(content: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Tokens and their kinds by id; rows of the embeddings that no token has are filled up."""
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [int(TokenType.UNUSED)] * size
    for text, number in content["model"]["vocab"].items():
        tokens[number], kinds[number] = text, int(TokenType.NORMAL)
    for token in content.get("added_tokens", ()):
        kind = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
        tokens[token["id"]], kinds[token["id"]] = token["content"], int(kind)
    return tokens, kinds


def _read(tokenizer: Any) -> dict[str, Any]:
    """What its tokenizer.json holds."""
    if not tokenizer.is_fast:
        raise refused("it has no tokenizer.json")
    return dict(json.loads(tokenizer.backend_tokenizer.to_str()))


def refused(reason: str) -> Refused:
    """That no file can be written."""
    return Refused(
        event_pb2.FAILURE_CLASS_MODEL_LOAD,
        f"output.gguf: no GGUF file can be written of this model: {reason}",
        "leave output.gguf out, and convert the output with another program",
    )
