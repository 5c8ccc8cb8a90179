"""The keys about evaluations and checkpoints: when, how many, which is the best, and what follows from it."""

from __future__ import annotations

from typing import Any

from ftctl.importing.preferences import enough
from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, Told, differ, ignore, ignored, refuse, refused, write
from ftctl.importing.values import count, flag, integer, is_off, number, text, word


def evaluates(draft: Draft) -> bool:
    """Whether the file names anything to evaluate on."""
    return bool(draft.get("eval_dataset", lambda value: value, None)) or draft.get("val_size", number, 0.0) > 0


def eval_cadence(draft: Draft) -> str:
    """When the tool evaluates: no, steps or epoch."""
    rule = draft.tool.table["eval_strategy"].default
    return draft.get("eval_strategy", word, (rule(draft) if callable(rule) else rule) or "no")


def _eval_strategy(draft: Draft, key: str, value: Any) -> Entry:
    cadence = {"no": "never", "steps": "steps", "epoch": "epoch"}.get(word(value))
    if cadence is None:
        raise ValueError("expected no, steps or epoch")
    if not evaluates(draft):
        if cadence == "never":
            return ignore(key, value, "as here: there is nothing to evaluate on")
        return refuse(key, value, "there is nothing to evaluate on", "name evaluation data, or set it to no")
    return write(key, value, "evaluation.cadence", cadence)


def _every(field: str, strategy: str) -> Rule:
    """A number of updates; below 1 it is a share of all of them, which must be known."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        steps, most = number(value), draft.get("max_steps", integer, -1)
        of_evaluation = field.startswith("evaluation")
        if of_evaluation and not evaluates(draft):
            return ignore(key, value, "there is nothing to evaluate on")
        cadence = eval_cadence(draft) if of_evaluation else draft.get(strategy, word, "steps")
        if cadence != "steps":
            return ignore(key, value, f"{draft.tool.spelled(strategy)} is {cadence}")
        if 0 < steps < 1:
            if most < 1:
                return refuse(key, value, "is a share of updates that nobody has counted", "give a number of updates")
            return write(key, value, field, max(1, round(steps * most)), f"of {most} updates")
        return write(key, value, field, count(value))

    return Rule(apply)


def _every_default(draft: Draft) -> Any:
    """Without eval_steps the Trainer evaluates as often as it logs."""
    steps = evaluates(draft) and eval_cadence(draft) == "steps"
    return draft.get("logging_steps", number, 500.0) if steps else None


def _save_strategy(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    name = word(value)
    cadence = {"no": "never", "steps": "steps", "epoch": "epoch", "best": "never"}.get(name)
    if cadence is None:
        raise ValueError("expected no, steps, epoch or best")
    chosen = write(key, value, "checkpoints.cadence", cadence)
    if name != "best":
        return chosen
    if nothing := _nothing(draft, key, value):
        return nothing
    return [chosen, write(key, value, "checkpoints.keep_best", True)]


def _saves_by_steps(draft: Draft) -> Any:
    return 500 if draft.get("save_strategy", word, "steps") == "steps" else None


def _keep(draft: Draft, key: str, value: Any) -> Entry:
    if integer(value) < 1:
        return differ(key, "every checkpoint is kept", "checkpoints.keep")
    return write(key, value, "checkpoints.keep", count(value))


def _eval_micro(draft: Draft, key: str, value: Any) -> Entry:
    if not evaluates(draft) or eval_cadence(draft) == "no":
        return ignore(key, value, "nothing is evaluated")
    return write(key, value, "evaluation.micro_batch", *enough(draft, count(value)))


def eval_micro_default(size: int) -> Any:
    """The tool's batch of an evaluation, where there is one."""
    return lambda draft: size if evaluates(draft) and eval_cadence(draft) != "no" else None


def _nothing(draft: Draft, key: str, value: Any) -> Entry | None:
    """A refusal where the best evaluation is asked for and there is none."""
    if evaluates(draft) and eval_cadence(draft) != "no":
        return None
    return refuse(key, value, "nothing is evaluated", "name evaluation data, and when to evaluate")


def _best_weights(draft: Draft, key: str, value: Any) -> Entry:
    if not flag(value):
        return ignore(key, value, "as here: the output has the last weights")
    return _nothing(draft, key, value) or write(key, value, "output.weights", "best")


def _patience(draft: Draft, key: str, value: Any) -> Entry:
    if is_off(value):
        return ignore(key, value, "as here: it never ends early")
    return _nothing(draft, key, value) or write(key, value, "evaluation.patience", count(value), "evaluations")


def answers(draft: Draft, key: str, value: Any) -> Entry:
    """Answers that are written in evaluations, and compared with the rows' own."""
    if not flag(value):
        return ignore(key, value, "as here: none are written")
    if nothing := _nothing(draft, key, value):
        return nothing
    longest = draft.get("max_new_tokens", count, 0)
    settings = {"max_new_tokens": longest} if longest else {}
    return write(key, value, "evaluation.generation", settings, "in the training's evaluations, the likeliest tokens")


def _chooses(draft: Draft) -> bool:
    best = draft.get("save_strategy", word, "") == "best" or draft.on("load_best_model_at_end")
    return best or any(draft.has(key) for key in PATIENCES)


def _metric(draft: Draft, key: str, value: Any) -> Entry:
    name = text(value).removeprefix("eval_")
    if not _chooses(draft):
        return ignore(key, value, "no best evaluation is chosen")
    if name not in FIGURES:
        return refuse(key, value, "is no figure of an evaluation here", f"accepted are {', '.join(FIGURES)}")
    return write(key, value, "evaluation.metric", FIGURES[name])


def _higher(draft: Draft, key: str, value: Any) -> Entry:
    if not _chooses(draft):
        return ignore(key, value, "no best evaluation is chosen")
    return write(key, value, "evaluation.higher_is_better", flag(value))


# How the tools call it that a training ends early; all of them count evaluations.
PATIENCES = ("early_stopping_steps", "early_stopping_patience", "early_stop_interval")
PATIENCE = Rule(_patience)
FIGURES = {
    "loss": "loss",
    "accuracy": "mean_token_accuracy",
    "mean_token_accuracy": "mean_token_accuracy",
    "rewards/accuracies": "rewards/accuracies",
    "rewards/margins": "rewards/margins",
}
EVALUATING: dict[str, Rule] = {
    "per_device_eval_batch_size": Rule(_eval_micro, default=eval_micro_default(8)),
    "eval_strategy": Rule(_eval_strategy, default="no"),
    "eval_steps": Rule(_every("evaluation.every_steps", "eval_strategy").apply, default=_every_default),
    "eval_delay": refused("evaluations cannot be put off", "remove it"),
    "eval_on_start": ignored("evaluations are by evaluation.cadence"),
    "save_strategy": Rule(_save_strategy, default="steps"),
    "save_steps": Rule(_every("checkpoints.every_steps", "save_strategy").apply, default=_saves_by_steps),
    "save_total_limit": Rule(_keep, default=Told("every checkpoint is kept", "checkpoints.keep")),
    "save_only_model": ignored("a checkpoint here always holds what it takes to go on"),
    "load_best_model_at_end": Rule(_best_weights),
    "metric_for_best_model": Rule(_metric),
    "greater_is_better": Rule(_higher),
}
