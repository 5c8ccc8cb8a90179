"""LLaMA-Factory's keys about what is trained beside LoRA: frozen layers, and orthogonal rotations (OFT)."""

from __future__ import annotations

from typing import Any

from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, ignore, refuse, refused, write
from ftctl.importing.values import Reader, count, integer, is_off, number, words


def _of(method: str, path: str, read: Reader, *, default: Any = None) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        return (
            write(key, value, f"{method}.{path}", read(value))
            if draft.method == method
            else ignore(key, value, f"not {method}")
        )

    return Rule(apply, lambda draft: default if draft.method == method else None)


def _modules(draft: Draft, key: str, value: Any) -> Entry:
    if draft.method != "freeze" or words(value) == ["all"]:
        return ignore(key, value, "as here: whole layers" if draft.method == "freeze" else "not freeze")
    return write(key, value, "freeze.modules", words(value))


def _targets(draft: Draft, key: str, value: Any) -> Entry:
    if draft.method != "oft":
        return ignore(key, value, "not oft")
    return write(key, value, "oft.target_modules", ["all-linear"] if words(value) == ["all"] else words(value))


def _blocks(draft: Draft, key: str, value: Any) -> Entry:
    if draft.method != "oft" or is_off(value):
        return ignore(key, value, "oft_block_size tells" if draft.method == "oft" else "not oft")
    return refuse(key, value, "blocks are given by their width", "set oft_block_size")


FREEZING: dict[str, Rule] = {
    "freeze_trainable_layers": _of("freeze", "trainable_layers", integer),
    "freeze_trainable_modules": Rule(_modules),
    "freeze_extra_modules": _of("freeze", "extra_modules", words),
    "use_llama_pro": refused("LLaMA Pro is not there", "set it to false"),
}
ORTHOGONAL: dict[str, Rule] = {
    "oft_rank": Rule(_blocks),
    "oft_block_size": _of("oft", "block_size", count),
    "oft_target": Rule(_targets),
    "module_dropout": _of("oft", "dropout", number),
}
