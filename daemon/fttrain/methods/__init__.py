"""Which parameters are trained: one entry per method of the spec, looked up by the name of its field.

A method says how the base weights are loaded, which adapter goes on top, and which parameters move; to add one is to
add a class and a line here. It must never touch the training objective; that is `stages`.
"""

from __future__ import annotations

from finetuned.v1 import training_pb2
from fttrain.methods.adalora import Adalora
from fttrain.methods.lora import Lora, Qlora
from fttrain.methods.parts import DTYPES, Method
from fttrain.methods.prompts import PrefixTuning, PromptTuning, PTuning
from fttrain.methods.rotations import Boft, Oft
from fttrain.methods.vectors import Ia3, Vera
from fttrain.methods.whole import Freeze

__all__ = ["DTYPES", "METHODS", "Method", "of"]

METHODS: dict[str, Method] = {
    "lora": Lora(),
    "qlora": Qlora(),
    "full": Method(),
    "freeze": Freeze(),
    "adalora": Adalora(),
    "vera": Vera(),
    "oft": Oft(),
    "boft": Boft(),
    "ia3": Ia3(),
    "prefix_tuning": PrefixTuning(),
    "prompt_tuning": PromptTuning(),
    "p_tuning": PTuning(),
}


def of(spec: training_pb2.TrainingSpec) -> Method:
    """The method that the spec names."""
    return METHODS[str(spec.WhichOneof("method"))]
