"""Preferences and reward models: which stage and loss the tools' names mean here, and where their numbers go.

The tools name losses as TRL does, so one set of rules does for all. It must never know a single tool.
"""

from __future__ import annotations

from typing import Any

from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, choice, ignore, refuse, write
from ftctl.importing.values import Reader, number, word

# Stages that train on two answers to one question.
PAIRED = ("reward", "dpo", "orpo", "cpo")
# Losses that the tools count as DPO's or CPO's, and the stage they are here.
OWN_STAGES = {"orpo": "orpo", "simpo": "cpo"}
_WITH_BETA = ("dpo", "kto", "orpo", "cpo", "grpo")
SCORES = "the output is a sequence classification model with one label, not a value head"


def stage_entries(draft: Draft, key: str, value: Any, loss: str = "") -> list[Entry]:
    """The entries that choose a stage, and the loss that makes cpo SimPO."""
    text = SCORES if draft.stage == "reward" else ""
    chosen = write(key, value, draft.stage, {}, text)
    return [chosen, write(key, value, "cpo.loss", "simpo")] if loss == "simpo" else [chosen]


def beta() -> Rule:
    """The strength of the pull to the reference, below whichever stage has one."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.stage not in _WITH_BETA:
            return ignore(key, value, f"{draft.stage or 'this stage'} has no beta")
        return write(key, value, f"{draft.stage}.beta", number(value))

    return Rule(apply)


def of_stage(path: str, read: Reader, *, default: Any = None) -> Rule:
    """The value goes to a field of its stage, e.g. kto.desirable_weight; another stage has none."""
    owner = path.partition(".")[0]

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        return write(key, value, path, read(value)) if draft.stage == owner else ignore(key, value, f"not {owner}")

    return Rule(apply, default)


def enough(draft: Draft, micro: int) -> tuple[int, str]:
    """The micro-batch, two for one where the stage compares the answers in it, and what is to be said of that."""
    if draft.stage != "kto" or micro > 1:
        return micro, ""
    return 2, "kto compares the answers of a micro-batch; LLaMA-Factory and ms-swift pair each with another beforehand"


def loss(key_of_likelihood: str, known: dict[str, str]) -> Rule:
    """The loss of pairs; with a likelihood beside it, it stands there."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        name = word(value)
        if draft.stage == "cpo" and name == "simpo":
            return write(key, value, "cpo.loss", name)
        if draft.stage == "orpo" and name == "orpo":
            return write(key, value, "orpo", {})
        if draft.stage != "dpo":
            return ignore(key, value, "not dpo")
        if name in known and draft.get(key_of_likelihood, number, 0.0):
            return write(key, value, "dpo.losses", None, f"stands there, for {key_of_likelihood}")
        return choice("dpo.loss", known, "this loss").apply(draft, key, value)  # type: ignore[return-value]

    return Rule(apply)


def likelihood(key_of_loss: str, known: dict[str, str]) -> Rule:
    """A weight of the chosen answer's likelihood beside the loss of pairs."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        weight = float(number(value))
        if not weight:
            return ignore(key, value, "0: none, as here")
        if draft.stage == "cpo":
            return write(key, value, "cpo.nll_weight", weight)
        if draft.stage != "dpo":
            why = f"{draft.stage or 'this stage'} has no likelihood of the chosen answer with a weight of its own"
            return refuse(key, value, why, "set it to 0")
        first = known.get(draft.get(key_of_loss, word, "sigmoid"), "sigmoid")
        losses: list[dict[str, Any]] = [{"loss": first}, {"loss": "sft", "weight": weight}]
        return write(key, value, "dpo.losses", losses, "a mean over the tokens of a micro-batch, not over its rows")

    return Rule(apply)
