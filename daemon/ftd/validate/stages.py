"""How the fields of a stage go together."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.online import Online
from ftd.spec import DeviceKind, TrainingSpec
from ftd.stages import Cpo, CpoLoss, Dpo, DpoLoss, Kto, Sft, Stage, TrainOn
from ftd.validate.problems import Problem, Rule, listed

SMOOTHED_LOSSES = (DpoLoss.ROBUST, DpoLoss.EXO_PAIR, DpoLoss.AOT, DpoLoss.AOT_UNPAIRED)
SMOOTHED_CPO_LOSSES = (CpoLoss.SIGMOID, CpoLoss.SIMPO)

# Their rows come in an order of their own.
UNGROUPED_STAGES = Kto | Online


def smallest_micro_batch(stage: Stage) -> int:
    """Rows a forward pass needs: KTO's KL term is estimated on each prompt with the answer to another one."""
    return 2 if isinstance(stage, Kto) else 1


def _stage(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    match training.stage:
        case Sft():
            yield from _sft(training.stage)
        case Dpo():
            yield from _dpo(training.stage)
        case Cpo():
            yield from _cpo(training.stage)


def _sft(stage: Sft) -> Iterator[Problem]:
    if stage.roles and stage.train_on is not None:
        yield "sft.roles", "stands beside sft.train_on; accepted is one of the two"
    if stage.train_on_thinking is False and stage.train_on is TrainOn.ALL:
        yield "sft.train_on_thinking", "is false, but train_on is all; accepted with assistant or last_assistant"


def _dpo(stage: Dpo) -> Iterator[Problem]:
    several = [each.loss for each in stage.losses]
    if several and stage.loss is not None:
        yield "dpo.losses", "stands beside dpo.loss; accepted is one of the two"
    for index, loss in enumerate(several):
        if loss is None:
            yield (
                f"dpo.losses[{index}].loss",
                f"is missing; accepted is {listed([str(each) for each in DpoLoss], 'or')}",
            )
        elif loss in several[:index]:
            yield f"dpo.losses[{index}].loss", f"names {loss} again; accepted is each loss once"
    losses = [loss for loss in several if loss] or [stage.loss or DpoLoss.SIGMOID]
    if stage.label_smoothing and not set(losses) & set(SMOOTHED_LOSSES):
        accepted = listed([str(each) for each in SMOOTHED_LOSSES], "or")
        found = f"has no meaning for the loss {listed([str(each) for each in losses], 'and')}"
        yield "dpo.label_smoothing", f"{found}; accepted with {accepted}"
    if stage.label_smoothing == 0 and DpoLoss.EXO_PAIR in losses:
        yield "dpo.label_smoothing", "is 0, but exo_pair has no value there; accepted is over 0, e.g. 0.001"


def _cpo(stage: Cpo) -> Iterator[Problem]:
    loss = stage.loss or CpoLoss.SIGMOID
    if stage.label_smoothing and loss not in SMOOTHED_CPO_LOSSES:
        yield "cpo.label_smoothing", f"has no meaning for the loss {loss}; accepted with sigmoid or simpo"
    if stage.gamma is not None and loss is not CpoLoss.SIMPO:
        yield "cpo.gamma", f"has no meaning for the loss {loss}; accepted with simpo"


RULES: tuple[Rule, ...] = (_stage,)
