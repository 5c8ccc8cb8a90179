"""What evaluations find, set by set and over all rows, and what follows: the best one, and when there is no more gain.

Everything is told anew from the trainer's log, which is in every checkpoint, so a training that goes on later judges as
if it had never stopped. It must never compute a loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetuned.v1 import event_pb2, training_pb2
from fttrain.report import Report
from fttrain.rows import Rows

Figures = dict[str, float]
_PREFIX = "eval_"
# What the trainers count beside the figures; EvaluationMetrics has a field for the time.
_COUNTED = {
    "runtime",
    "model_preparation_time",
    "num_tokens",
    "samples_per_second",
    "steps_per_second",
    "epoch",
    "num_input_tokens_seen",
}
# Stages whose loss is the mean of -log-likelihoods of tokens.
_TOKEN_STAGES = ("sft", "pretrain", "evaluate")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best evaluation so far, and how many have come after the last gain."""

    step: int
    value: float
    without_gain: int


def judge(values: Sequence[tuple[int, float]], *, higher: bool, min_delta: float) -> Verdict | None:
    """The verdict on evaluations given as step and value; None without any. What is not a number is never the best."""
    worst = -math.inf if higher else math.inf
    best, gained, without_gain = (0, worst), worst, 0
    for step, value in values:
        sign = 1 if higher else -1
        if sign * value > sign * best[1]:
            best = step, value
        if sign * value > sign * gained + min_delta:
            gained, without_gain = value, 0
        else:
            without_gain += 1
    return Verdict(*best, without_gain) if values else None


class Evaluations:
    """The evaluation sets of a training, and the judgement of what they gave."""

    def __init__(self, spec: training_pb2.TrainingSpec, sets: Mapping[str, Any], report: Report) -> None:
        self.sets = sets
        self._spec = spec.evaluation
        self._of_tokens = spec.WhichOneof("stage") in _TOKEN_STAGES
        self._keeps_best = spec.checkpoints.keep_best
        self._report = report

    def joined(self, found: Mapping[str, Mapping[str, float]]) -> Figures:
        """One evaluation's figures from those of its sets: means over all rows, of several sets each one's as well."""
        sets = {name: self._named(figures) for name, figures in found.items()}
        shared = set.intersection(*(set(figures) for figures in sets.values()))
        rows = {name: len(self.sets[name]) for name in sets}
        total = sum(rows.values())
        joined = self._with_perplexity(
            {key: sum(sets[name][key] * rows[name] for name in sets) / total for key in sorted(shared)}
        )
        if len(sets) > 1:
            for name, figures in sets.items():
                joined |= {f"{name}/{key}": value for key, value in self._with_perplexity(figures).items()}
        return joined

    def tell(self, state: Any, control: Any, figures: Figures, seconds: float) -> None:
        """Reports an evaluation. Asks for a checkpoint of the best one, and for the end when there is no more gain."""
        logged = self.as_logged(figures)
        state.log_history.append(logged | {"epoch": state.epoch, "step": state.global_step})
        verdict = self.verdict(state)
        # Of one evaluation none is the best.
        value = figures.get(self._spec.metric, math.nan) if self._spec.metric else 0.0
        is_best = verdict is not None and verdict.step == state.global_step
        self._report.evaluation(
            event_pb2.EvaluationMetrics(
                step=state.global_step,
                epoch=state.epoch,
                loss=figures["loss"],
                seconds=seconds,
                extra={name: value for name, value in figures.items() if name != "loss"},
                best=is_best,
                value=value,
            )
        )
        if is_best:
            state.best_metric, state.best_global_step = value, state.global_step
            control.should_save = control.should_save or self._keeps_best
        if verdict is not None and self._exhausted(verdict):
            self._tell_end(verdict, state.global_step)
            control.should_training_stop = True

    def as_logged(self, figures: Figures) -> Figures:
        """The figures by the names that the trainer's log and its schedules have for them."""
        return {f"{_PREFIX}{name}": value for name, value in figures.items()}

    def nothing(self) -> Figures:
        """What an evaluation that was stopped says to a schedule that waits for gains."""
        return self.as_logged({self._spec.metric: math.nan})

    def verdict(self, state: Any) -> Verdict | None:
        """The judgement of all evaluations that the trainer's log has."""
        key = f"{_PREFIX}{self._spec.metric}"
        values = [(entry["step"], entry[key]) for entry in state.log_history if key in entry]
        return judge(values, higher=self._spec.higher_is_better, min_delta=self._spec.min_delta)

    def ended_early(self, state: Any) -> bool:
        """Whether the training is complete before its last update."""
        verdict = self.verdict(state)
        return verdict is not None and self._exhausted(verdict)

    def _exhausted(self, verdict: Verdict) -> bool:
        return self._spec.HasField("patience") and verdict.without_gain >= self._spec.patience

    def _tell_end(self, verdict: Verdict, step: int) -> None:
        self._report.notice(
            f"ended early at step {step}: {verdict.without_gain} evaluations in a row brought no gain in "
            f"{self._spec.metric}; the best was {verdict.value:.6g} at step {verdict.step}"
        )

    def _named(self, figures: Mapping[str, float]) -> Figures:
        named = {name.removeprefix(_PREFIX): value for name, value in figures.items()}
        # None: a reward that had nothing to say of any row.
        return {name: value for name, value in named.items() if name not in _COUNTED and value is not None}

    def _with_perplexity(self, figures: Figures) -> Figures:
        return figures | {"perplexity": _exp(figures["loss"])} if self._of_tokens else figures


def sets_of(rows: Rows) -> Iterator[tuple[str, Any]]:
    """The evaluation rows by the name of their set."""
    if rows.eval is None:
        return
    start = 0
    for each in rows.report.evaluation_sets:
        yield each.name, rows.eval.select(range(start, start + each.rows))
        start += each.rows


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < math.log(1e300) else math.inf
