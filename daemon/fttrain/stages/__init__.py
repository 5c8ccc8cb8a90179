"""The training objectives: one entry per stage of the spec, looked up by the name of its field.

A stage turns the spec into its TRL configuration and builds its TRL trainer; to add one is to add a file and a line
here. It must never tokenise or truncate: the rows come prepared, and what was previewed is what is trained.
"""

from __future__ import annotations

from finetuned.v1 import training_pb2
from fttrain.stages.cpo import Cpo
from fttrain.stages.dpo import Dpo
from fttrain.stages.kto import Kto
from fttrain.stages.orpo import Orpo
from fttrain.stages.parts import Parts, Stage
from fttrain.stages.reward import Reward
from fttrain.stages.sft import Sft

__all__ = ["PAIRED", "STAGES", "Parts", "Stage", "of"]

STAGES: dict[str, Stage] = {
    "sft": Sft(),
    "pretrain": Sft(),
    "reward": Reward(),
    "dpo": Dpo(),
    "kto": Kto(),
    "orpo": Orpo(),
    "cpo": Cpo(),
}

# Those whose rows are two answers to a prompt: the batch has all chosen ones, then all rejected ones.
PAIRED = {"reward", "dpo", "orpo", "cpo"}


def of(spec: training_pb2.TrainingSpec) -> Stage:
    """The stage that the spec names."""
    return STAGES[str(spec.WhichOneof("stage"))]
