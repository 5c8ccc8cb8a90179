"""The keys about updates: the optimizer, how long is trained, how the learning rate moves, what noise there is."""

from __future__ import annotations

from typing import Any

from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, choice, ignore, refuse, refused, to, to_adapter, write
from ftctl.importing.values import flag, integer, is_off, mapping, number, word

# By transformers' names; what each of them needs on the host is told when a job is submitted.
OPTIMIZERS = (
    *("adamw_torch_fused", "adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop", "adamw_8bit", "adamw_bnb_8bit"),
    *("paged_adamw_8bit", "paged_adamw_32bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit"),
    *("paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop_bnb"),
    *("rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "adamw_torch_8bit", "adamw_torch_4bit", "galore_adamw"),
    *("galore_adamw_8bit", "galore_adafactor", "apollo_adamw", "stable_adamw"),
)
SCHEDULES = (
    *("cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial", "cosine_with_restarts"),
    *("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "reduce_lr_on_plateau"),
)
_WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau")
# Arguments of schedules by their names here.
_OF_SCHEDULES = {
    "min_lr_rate": "min_lr_ratio",
    "min_lr_ratio": "min_lr_ratio",
    "num_cycles": "restarts",
    "power": "power",
    "factor": "plateau_factor",
    "patience": "plateau_patience",
}


def optimizer(draft: Draft) -> str:
    """The optimizer's name, where the file gives it: in a switch of LLaMA-Factory, or by itself."""
    for name in ("galore", "apollo"):
        if draft.on(f"use_{name}"):
            return f"{name}_adamw"
    return draft.get("optim", word, "adamw_torch_fused")


def is_adam(name: str) -> bool:
    """Whether it has both betas and epsilon."""
    return ("adam" in name or "ademamix" in name) and not name.startswith("galore")


def projected(name: str) -> dict[str, Rule]:
    """LLaMA-Factory's switch for GaLore or APOLLO, and what goes with it."""

    def switch(draft: Draft, key: str, value: Any) -> Entry:
        if not flag(value):
            return ignore(key, value, "off")
        return write(key, value, "optimizer.name", f"{name}_adamw")

    def used(rule: Rule, default: Any = None) -> Rule:
        def apply(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
            if not draft.on(f"use_{name}"):
                return ignore(key, value, "this optimizer is not used")
            return rule.apply(draft, key, value)

        return Rule(apply, lambda draft: default if draft.on(f"use_{name}") else None)

    def only(accepted: Any) -> Rule:
        return used(refused("it is projected in one way", f"use {str(accepted).lower()}", lambda v: v == accepted))

    fixed = {"target": "all", "proj_type": "std", "layerwise": False}
    if name == "apollo":
        fixed |= {"proj": "random", "scale_type": "channel", "scale_front": False}
    return {
        f"use_{name}": Rule(switch),
        f"{name}_rank": used(to("optimizer.projection_rank", number), 16),
        f"{name}_update_interval": used(to("optimizer.projection_interval", number), 200),
        f"{name}_scale": used(to("optimizer.projection_scale", number), 2.0 if name == "galore" else 32.0),
        **{f"{name}_{key}": only(accepted) for key, accepted in fixed.items()},
    }


def _schedule_arguments(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    if is_off(value):
        return ignore(key, value, "none")
    entries = []
    for name, given in mapping(value).items():
        if name == "min_lr":
            ratio = number(given) / draft.get("learning_rate", number, 5e-5)
            entries.append(write(f"{key}.{name}", given, "schedule.min_lr_ratio", ratio, "of the learning rate"))
        elif name in _OF_SCHEDULES:
            entries.append(write(f"{key}.{name}", given, f"schedule.{_OF_SCHEDULES[name]}", number(given)))
        else:
            known = ", ".join(("min_lr", *_OF_SCHEDULES))
            entries.append(refuse(f"{key}.{name}", given, "cannot be given", f"accepted are {known}"))
    return [write(key, value, "schedule", None, "stands there"), *entries]


def _max_steps(draft: Draft, key: str, value: Any) -> Entry:
    if integer(value) < 1:
        return ignore(key, value, "below 1: the epochs decide")
    return write(key, value, "schedule.max_steps", integer(value))


def _epochs(draft: Draft, key: str, value: Any) -> Entry:
    if draft.get("max_steps", integer, -1) > 0:
        return ignore(key, value, "max_steps outranks it there, and is what stands here")
    return write(key, value, "schedule.epochs", float(number(value)))


def _never_warms(draft: Draft) -> bool:
    return draft.get("lr_scheduler_type", word, "") in _WITHOUT_WARMUP


def _warmup_ratio(draft: Draft, key: str, value: Any) -> Entry:
    if _never_warms(draft):
        return ignore(key, value, "such a schedule has no warmup")
    if draft.get("warmup_steps", number, 0.0):
        return ignore(key, value, "warmup_steps outranks it there, and is what stands here")
    if not 0 <= number(value) < 1:
        raise ValueError("expected a share: 0 or more and less than 1")
    return write(key, value, "schedule.warmup_ratio", float(number(value)))


def _warmup_steps(draft: Draft, key: str, value: Any) -> Entry:
    steps = number(value)
    if _never_warms(draft):
        return ignore(key, value, "such a schedule has no warmup")
    if steps == 0 and draft.has("warmup_ratio"):
        return ignore(key, value, "0: warmup_ratio decides")
    if 0 < steps < 1:
        return write(key, value, "schedule.warmup_ratio", float(steps), "below 1 it is a share")
    return write(key, value, "schedule.warmup_steps", integer(value))


def no_warmup(draft: Draft) -> Any:
    """The default of transformers, where the file says nothing about a warmup."""
    return None if draft.has("warmup_ratio") or _never_warms(draft) else 0


def _moment(path: str) -> Rule:
    """A beta, or epsilon, which not every optimizer has."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        name = optimizer(draft)
        if not (is_adam(name) or ("lion" in name and not path.endswith("epsilon"))):
            return ignore(key, value, "the optimizer does not use it")
        return write(key, value, path, float(number(value)))

    return Rule(apply)


UPDATING: dict[str, Rule] = {
    "learning_rate": to("optimizer.learning_rate", number, default=5e-5),
    "weight_decay": to("optimizer.weight_decay", number),
    "adam_beta1": _moment("optimizer.beta1"),
    "adam_beta2": _moment("optimizer.beta2"),
    "adam_epsilon": _moment("optimizer.epsilon"),
    "max_grad_norm": to("optimizer.max_grad_norm", number),
    "optim": choice("optimizer.name", {name: name for name in OPTIMIZERS}, "this optimizer"),
    "optim_args": refused("arguments of an optimizer cannot be given", "remove them"),
    "optim_target_modules": refused(
        "every linear layer is projected", "set it to all-linear", lambda v: v == "all-linear"
    ),
    "num_train_epochs": Rule(_epochs),
    "max_steps": Rule(_max_steps),
    "lr_scheduler_type": choice("schedule.name", {name: name for name in SCHEDULES}, "this schedule", default="linear"),
    "lr_scheduler_kwargs": Rule(_schedule_arguments),
    "warmup_ratio": Rule(_warmup_ratio),
    "warmup_steps": Rule(_warmup_steps, default=no_warmup),
    "neftune_noise_alpha": Rule(
        lambda draft, key, value: (
            ignore(key, value, "none")
            if is_off(value)
            else write(key, value, "compute.neftune_noise_alpha", number(value))
        )
    ),
    "label_smoothing_factor": refused("label smoothing of the token loss is not there yet", "remove it"),
    "loraplus_lr_ratio": to_adapter("loraplus_lr_ratio", number),
    "loraplus_lr_embedding": Rule(
        lambda draft, key, value: (
            to_adapter("loraplus_embedding_lr", number).apply(draft, key, value)
            if draft.has("loraplus_lr_ratio")
            else ignore(key, value, "only LoRA+ uses it")
        )
    ),
}
