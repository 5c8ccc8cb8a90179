"""The training objectives: one entry per stage of the spec, looked up by the name of its field.

A stage turns the spec into its TRL configuration and builds its TRL trainer; to add one is to add a file and a line
here. It must never tokenise or truncate: the rows come prepared, and what was previewed is what is trained.
"""

from __future__ import annotations

from finetuned.v1 import training_pb2
from fttrain.stages.cpo import Cpo
from fttrain.stages.distill import Distill
from fttrain.stages.dpo import Dpo
from fttrain.stages.grpo import Grpo
from fttrain.stages.kto import Kto
from fttrain.stages.orpo import Orpo
from fttrain.stages.parts import Parts, Stage
from fttrain.stages.ppo import Ppo
from fttrain.stages.reward import Reward
from fttrain.stages.rloo import Rloo
from fttrain.stages.sft import Sft

__all__ = ["PAIRED", "STAGES", "Parts", "Stage", "compares", "of"]

STAGES: dict[str, Stage] = {
    "sft": Sft(),
    "pretrain": Sft(),
    "reward": Reward(),
    "dpo": Dpo(),
    "kto": Kto(),
    "orpo": Orpo(),
    "cpo": Cpo(),
    "grpo": Grpo(),
    "rloo": Rloo(),
    "ppo": Ppo(),
    "distill": Distill(),
}

# Those whose rows are two answers to a prompt: the batch has all chosen ones, then all rejected ones.
PAIRED = {"reward", "dpo", "orpo", "cpo"}


def of(spec: training_pb2.TrainingSpec) -> Stage:
    """The stage that the spec names."""
    return STAGES[str(spec.WhichOneof("stage"))]


def compares(spec: training_pb2.TrainingSpec) -> bool:
    """Whether the loss compares with the model as it was: not one that gives the comparison no weight."""
    return of(spec).needs_reference and getattr(spec, str(spec.WhichOneof("stage"))).beta > 0
