"""What a method is, and the number formats by their names in the spec. It must never know a single method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import BitsAndBytesConfig

from finetuned.v1 import training_pb2

ALL_LINEAR = "all-linear"
DTYPES = {
    training_pb2.DTYPE_FP32: torch.float32,
    training_pb2.DTYPE_BF16: torch.bfloat16,
    training_pb2.DTYPE_FP16: torch.float16,
}


class Method:
    """Trains every parameter as it was loaded; the other methods change a part of that."""

    def quantization(self, spec: training_pb2.TrainingSpec) -> BitsAndBytesConfig | None:
        """How the base weights are quantised while they are loaded."""
        return None

    def adapter(self, spec: training_pb2.TrainingSpec) -> PeftConfig | None:
        """The adapter to train instead of the base weights."""
        return None

    def choose_parameters(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Freezes what is not trained, before the trainer sees the model."""

    def settle_dtype(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Sets the format of the trained weights, after the trainer has put its adapter on."""

    def settle(self, spec: training_pb2.TrainingSpec, trainer: Any) -> None:
        """What else the method needs of the trainer: callbacks, an optimizer of its own."""

    def save(self, spec: training_pb2.TrainingSpec, model: Any, folder: Path, weights: Any = None) -> None:
        """Writes the adapter, as one for the base model as it was; `weights` by name, where the model has them not."""
        # The vocabulary was not resized, and looking that up would ask the hub about the portable name.
        model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"], state_dict=weights)


def modules(names: Any) -> str | list[str]:
    """The target modules of a spec as PEFT takes them."""
    return ALL_LINEAR if list(names) == [ALL_LINEAR] else list(names)
