"""Puts adapters that are there already onto a model: merged into its weights, or to be trained on.

It must never leave a part of an adapter out: one that does not fit is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel

from finetuned.v1 import event_pb2
from fttrain.failure import Refused, classify
from fttrain.origins import short_name


def merge(model: Any, adapters: Sequence[Path]) -> Any:
    """The model with the adapters in its weights, in their order; as trainable as it was loaded."""
    if adapters and getattr(model, "is_quantized", False):
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"{len(adapters)} adapters are to be merged into a quantised model, which would round them",
            "use the method lora, or merge them into a model of their own first",
        )
    for folder in adapters:
        config = PeftConfig.from_pretrained(str(folder))
        # An adapter of a language model also fits the body of a reward model.
        config.task_type = None
        with _whole(folder):
            model = PeftModel.from_pretrained(model, str(folder), config=config).merge_and_unload(safe_merge=True)
    if adapters:
        # PEFT has frozen it.
        model.requires_grad_(True)
    return model


def go_on(model: Any, folder: Path, dropout: float) -> Any:
    """The model with the adapter on it, to be trained."""
    config = PeftConfig.from_pretrained(str(folder))
    config.lora_dropout = dropout
    with _whole(folder):
        return PeftModel.from_pretrained(model, str(folder), config=config, is_trainable=True)


def put_on(model: Any, folder: Path) -> Any:
    """The model with the adapter beside its weights, which can be left out at any time."""
    with _whole(folder):
        return PeftModel.from_pretrained(model, str(folder))


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """PEFT only warns of weights of the model's adapter that the folder does not have."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            yield
    except Exception as error:
        # Out of memory stays what it is.
        if classify(error, rank=0).failure_class != event_pb2.FAILURE_CLASS_INTERNAL:
            raise
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"the adapter {short_name(folder)} does not fit the model: {error}",
            "give the adapter of a model with the same layers",
        ) from error
