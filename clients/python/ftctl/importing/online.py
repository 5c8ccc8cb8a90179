"""Stages whose model writes the answers it is trained on: what an answer is worth, and how it is drawn.

Knows the names that LLaMA-Factory's PPO and ms-swift's GRPO give these. A reward that is not one of ours is refused.
"""

from __future__ import annotations

from typing import Any

from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, Told, differ, ignore, ignored, refuse, write
from ftctl.importing.values import Reader, integer, is_off, number, word, words

STAGES = ("grpo", "rloo", "ppo")
_REFERENCED = "a model with a head of one number, as the stage reward leaves it; a value head of TRL cannot be read"
# ms-swift's functions that are ours too.
_FUNCTIONS: dict[str, dict[str, Any]] = {"format": {"tag_format": {}}}
_ACCURACY = {"exact_answer": {"pattern": r"\\boxed\{([^{}]*)\}", "numbers": True}}


def drawn(name: str, read: Reader, *, default: Any = None) -> Rule:
    """A setting of how answers are drawn."""
    return of_online(f"sampling.{name}", read, default=default)


def of_online(name: str, read: Reader, *, default: Any = None) -> Rule:
    """A setting of the stage; `default` is what the tool does by itself, where the model writes answers."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.stage not in STAGES:
            return ignore(key, value, "no answers are written")
        return write(key, value, f"{draft.stage}.{name}", read(value))

    return Rule(apply, lambda draft: default if draft.stage in STAGES else None)


def only_off(why: str, instead: str) -> Rule:
    """A setting that changes what is learned, where answers are written."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.stage not in STAGES or is_off(value):
            return ignore(key, value, "as here" if draft.stage in STAGES else "no answers are written")
        return refuse(key, value, why, instead)

    return Rule(apply)


def reward_model(draft: Draft, key: str, value: Any) -> Entry:
    """The model that scores answers."""
    if draft.stage not in STAGES:
        return ignore(key, value, "no answers are scored")
    if draft.get("reward_model_type", word, "lora") == "api":
        return refuse(key, value, "a server is not asked", "give a folder with a reward model")
    models = [str(draft.place.find(name) or name) for name in words(value)]
    rewards = [*_rewards(draft), *({"reward_model": {"weights": {"path": each}}} for each in models)]
    return write(key, value, f"{draft.stage}.rewards", rewards, _REFERENCED)


def functions(draft: Draft, key: str, value: Any) -> Entry:
    """Rules that score answers."""
    if draft.stage not in STAGES:
        return ignore(key, value, "no answers are scored")
    unknown = [name for name in words(value) if name not in (*_FUNCTIONS, "accuracy")]
    if unknown:
        known = ", ".join((*_FUNCTIONS, "accuracy"))
        return refuse(
            key, value, f"{', '.join(unknown)} is no function here", f"accepted are {known}; or user_function"
        )
    if draft.has("reward_model"):
        return write(key, value, f"{draft.stage}.rewards", None, "stands there, with reward_model")
    note = "accuracy compares what stands in \\boxed{}, and no formulas" if "accuracy" in words(value) else ""
    return write(key, value, f"{draft.stage}.rewards", _rewards(draft), note)


def _rewards(draft: Draft) -> list[dict[str, Any]]:
    none: list[str] = []
    names = draft.get("reward_funcs", words, none)
    known = [_ACCURACY if name == "accuracy" else _FUNCTIONS.get(name) for name in names]
    return [each for each in known if each]


def _target(draft: Draft, key: str, value: Any) -> Entry:
    if draft.stage != "ppo":
        return ignore(key, value, "not ppo")
    return differ(key, _MOVES.format(number(value)), "ppo.beta", "it stays as it is")


_MOVES = "its weight moves so that the divergence is {:g}"
# LLaMA-Factory's, for PPO.
PPO: dict[str, Rule] = {
    "reward_model": Rule(reward_model),
    "reward_model_type": ignored("reward_model tells"),
    "ppo_epochs": of_online("iterations", integer),
    "ppo_buffer_size": ignored("the answers of an update are written at once"),
    "ppo_score_norm": only_off("scores are taken as they are", "set it to false"),
    "ppo_whiten_rewards": only_off("advantages are whitened, rewards are not", "set it to false"),
    "ppo_target": Rule(
        _target, default=lambda draft: Told(_MOVES.format(6), "ppo.beta") if draft.stage == "ppo" else None
    ),
    "max_new_tokens": drawn("max_completion_length", integer, default=1024),
    "temperature": drawn("temperature", number, default=0.95),
    "top_p": drawn("top_p", number, default=0.7),
    "top_k": drawn("top_k", integer, default=50),
    "repetition_penalty": drawn("repetition_penalty", number),
}
# ms-swift's, for GRPO.
GRPO: dict[str, Rule] = {
    "reward_funcs": Rule(functions),
    "reward_model": Rule(reward_model),
    "reward_weights": only_off("rewards have the weight 1", "write them at grpo.rewards"),
    "num_generations": of_online("generations", integer),
    "num_iterations": of_online("iterations", integer),
    "epsilon": of_online("epsilon", number),
    "epsilon_high": of_online("epsilon_high", number),
    "max_completion_length": drawn("max_completion_length", integer, default=512),
    "temperature": drawn("temperature", number, default=Told("as its version has it", "grpo.sampling")),
    "top_p": drawn("top_p", number),
    "top_k": drawn("top_k", integer),
    "repetition_penalty": drawn("repetition_penalty", number),
    "vllm_mode": ignored("answers are written by transformers"),
    "use_vllm": ignored("answers are written by transformers"),
}
