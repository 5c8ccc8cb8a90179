"""Methods that train weights of the model itself: a part of them. It must never add a parameter."""

from __future__ import annotations

from typing import Any

import torch

from finetuned.v1 import event_pb2, training_pb2
from fttrain.failure import Refused
from fttrain.methods.parts import Method


class Freeze(Method):
    """Only some of the layers are trained, or modules of them, and modules beyond."""

    def choose_parameters(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Everything is frozen, then what the spec names is not."""
        freeze = spec.freeze
        model.requires_grad_(False)
        count, layers = freeze.trainable_layers, list(_decoder_layers(model))
        chosen = layers[-count:] if count > 0 else layers[:-count]
        for layer in chosen:
            for name in freeze.modules:
                _unfreeze(layer, name, "freeze.modules")
            if not freeze.modules:
                layer.requires_grad_(True)
        for name in freeze.extra_modules:
            _unfreeze(model, name, "freeze.extra_modules")


def _unfreeze(parent: Any, name: str, field: str) -> None:
    found = [module for path, module in parent.named_modules() if f".{path}".endswith(f".{name}")]
    if not found:
        known = sorted({path.rpartition(".")[2] for path, _ in parent.named_modules() if path})
        accepted = ", ".join(each for each in known if not each.isdigit())
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD, f"{field} names {name}, which is not in the model", f"use of {accepted}"
        )
    for module in found:
        module.requires_grad_(True)


def _decoder_layers(model: Any) -> Any:
    """The list of layers, told from other module lists by the number that the model's configuration gives."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next(layers for layers in lists if len(layers) == count)
