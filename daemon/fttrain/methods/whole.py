"""Methods that train weights of the model itself: a part of them. It must never add a parameter."""

from __future__ import annotations

from typing import Any

import torch

from finetuned.v1 import training_pb2
from fttrain.methods.parts import Method


class Freeze(Method):
    """Only the last layers are trained."""

    def choose_parameters(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Everything is frozen, then the last layers are not; embeddings and head stay."""
        model.requires_grad_(False)
        for layer in _decoder_layers(model)[-spec.freeze.trainable_layers :]:
            layer.requires_grad_(True)


def _decoder_layers(model: Any) -> Any:
    """The list of layers, told from other module lists by the number that the model's configuration gives."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next(layers for layers in lists if len(layers) == count)
