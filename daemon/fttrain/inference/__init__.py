"""What is done with a model that trains nothing: one module per such stage, looked up by the name of its field.

A module's `run` has the shape of a rank's body. It is imported when its job runs: none of them needs what the others
load. It must never train, nor write a checkpoint.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from finetuned.v1 import training_pb2
from fttrain.rank import Body

MODULES = {
    "evaluate": "fttrain.inference.evaluate",
    "export": "fttrain.inference.export",
    "chat": "fttrain.inference.chat",
}
# Those that need no rows.
ROWLESS = {"export", "chat"}


def of(spec: training_pb2.TrainingSpec) -> Body | None:
    """What runs for the stage of the spec; None for those that train."""
    module = MODULES.get(str(spec.WhichOneof("stage")))
    return cast(Body, import_module(module).run) if module else None
