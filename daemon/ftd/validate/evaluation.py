"""What is evaluated, which figure is the best, and what follows from it for checkpoints and the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftd.datasets import Data
from ftd.inference import Chat, Evaluate, Export
from ftd.online import Distill, Grpo, Ppo, Rewarded, Rloo
from ftd.spec import Cadence, DeviceKind, OutputWeights, TrainingSpec, choice_name
from ftd.stages import Cpo, Dpo, Kto, Orpo, Pretrain, Reward, Sft, Stage
from ftd.validate.data import has_evaluation_data
from ftd.validate.problems import Problem, Rule, listed

LOSS = "loss"
REWARD = "reward"
_OF_TOKENS = {LOSS: False, "perplexity": False, "mean_token_accuracy": True}
_OF_PAIRS = {LOSS: False, "rewards/accuracies": True, "rewards/margins": True}
_OF_ANSWERS = {LOSS: False, REWARD: True}
# The figures an evaluation of a stage has, named as its trainer names them, and whether more of them is better.
FIGURES: dict[type[Stage], Mapping[str, bool]] = {
    Sft: _OF_TOKENS,
    Pretrain: _OF_TOKENS,
    Reward: {LOSS: False, "accuracy": True, "margin": True},
    Dpo: _OF_PAIRS,
    Kto: {LOSS: False, "rewards/margins": True},
    Orpo: _OF_PAIRS,
    Cpo: _OF_PAIRS,
    Grpo: _OF_ANSWERS,
    Rloo: _OF_ANSWERS,
    Ppo: _OF_ANSWERS,
    Distill: {LOSS: False},
    Evaluate: _OF_TOKENS,
    Export: {},
    Chat: {},
}
# Those of answers that are written in evaluations.
GENERATED = ("bleu", "rouge1", "rouge2", "rougeL", "exact_match")
_ANSWERED_STAGES = (Sft, Dpo, Kto, Orpo, Cpo, Evaluate)
_NOTHING = "nothing is evaluated; leave it out, or give data.eval or data.eval_split"


def evaluates(training: TrainingSpec) -> bool:
    """Whether a training is evaluated at all."""
    return training.evaluation.cadence is not Cadence.NEVER and has_evaluation_data(training)


def figures(training: TrainingSpec) -> dict[str, bool]:
    """Every figure that evaluations of a training will have, and whether more of it is better."""
    known = dict(FIGURES.get(type(training.stage or Sft()), {LOSS: False}))
    if training.evaluation.generation is not None:
        known |= dict.fromkeys(GENERATED, True)
    return known | {f"{name}/{figure}": more for name in _sets(training.data) for figure, more in known.items()}


def usual_figure(stage: Stage | None) -> str:
    """The figure that tells the best evaluation where the spec does not say."""
    return REWARD if isinstance(stage, Rewarded) else LOSS


def _sets(data: Data) -> list[str]:
    """Names of the evaluation sets where there are several."""
    names = [source.name or str(index) for index, source in enumerate(data.eval)]
    if not data.eval and any(source.name for source in data.train):
        shares = [data.eval_split if source.eval_split is None else source.eval_split for source in data.train]
        names = [source.name or str(index) for index, source in enumerate(data.train) if shares[index]]
    return names if len(names) > 1 else []


def _evaluation(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    evaluation = training.evaluation
    if evaluation.cadence not in (None, Cadence.NEVER) and not has_evaluation_data(training):
        wanted = "accepted with data.eval or data.eval_split"
        yield "evaluation.cadence", f"is {evaluation.cadence}, but there is no evaluation data; {wanted}"
    if not evaluates(training):
        for name in ("micro_batch", "metric", "higher_is_better", "patience", "generation"):
            if getattr(evaluation, name) is not None:
                yield f"evaluation.{name}", f"is given, but {_NOTHING}"
    elif evaluation.metric is not None and evaluation.metric not in (accepted := figures(training)):
        found = f"is {evaluation.metric!r}, which no evaluation of this training has"
        yield "evaluation.metric", f"{found}; accepted is {listed(list(accepted), 'or')}"
    if evaluation.min_delta is not None and evaluation.patience is None:
        yield "evaluation.min_delta", "is given, but the training never ends early; accepted with evaluation.patience"


def _generation(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    generation, stage = training.evaluation.generation, training.stage or Sft()
    if generation is None or not evaluates(training):
        return
    if not isinstance(stage, _ANSWERED_STAGES):
        accepted = listed([choice_name(each()) for each in _ANSWERED_STAGES], "or")
        found = f"is given, but rows of {choice_name(stage)} have no answers to compare with"
        yield "evaluation.generation", f"{found}; accepted with {accepted}"
    if generation.top_p is not None and not generation.temperature:
        yield "evaluation.generation.top_p", "is given, but nothing is drawn at temperature 0; give a temperature"


def _best(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    wants_best = training.output.weights is OutputWeights.BEST
    if not evaluates(training):
        if training.checkpoints.keep_best:
            yield "checkpoints.keep_best", f"is on, but {_NOTHING}"
        if wants_best:
            yield "output.weights", f"is best, but {_NOTHING}"
    elif wants_best and training.checkpoints.keep_best is False:
        yield "checkpoints.keep_best", "is off, but output.weights is best; accepted is true"


# What holds for answers whatever they are written for.
ANSWERS: tuple[Rule, ...] = (_generation,)
RULES: tuple[Rule, ...] = (_evaluation, *ANSWERS, _best)
