"""Loads the base model and its tokenizer: the files of one folder, the dtype always stated, safetensors only.

Whatever goes wrong is a Refused of class MODEL_LOAD that names the model. It must never fall back to weights that were
not in the folder, nor to the network unless the host allows it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BitsAndBytesConfig,
    set_seed,
)

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2, weights_pb2
from fttrain import adapters, methods, origins
from fttrain.data import templates
from fttrain.failure import Refused, classify
from fttrain.machine import on_cpu
from fttrain.methods import DTYPES
from fttrain.origins import portable_name
from fttrain.sharding import is_divided

_ATTENTION = {
    training_pb2.ATTENTION_SDPA: "sdpa",
    training_pb2.ATTENTION_EAGER: "eager",
    training_pb2.ATTENTION_FLASH_ATTENTION_2: "flash_attention_2",
}
_ADVICE = "check that the folder is a complete Hugging Face model: config.json, *.safetensors, tokenizer files"


def load_model(bootstrap: trainer_pb2.Bootstrap, quantization: BitsAndBytesConfig | None) -> Any:
    """The base model on its device, every weight from its files but those of a reward model's new head."""
    spec = bootstrap.spec
    scores = spec.WhichOneof("stage") == "reward"
    if scores:
        # Of the head's first weights.
        set_seed(spec.seed)
    model = _load(bootstrap, spec.model, quantization, scores=scores, new_head=scores)
    with _told_as_model_load(spec.model):
        return adapters.merge(model, origins.merged(spec))


def load_adapted(bootstrap: trainer_pb2.Bootstrap) -> Any:
    """The model with its last adapter beside the weights, where it has one, and those before that one merged.

    A method in the spec of a stage that trains nothing says how the weights were quantised that the adapter learnt on.
    """
    spec = bootstrap.spec
    quantization = methods.of(spec).quantization(spec) if spec.WhichOneof("method") else None
    model = _load(bootstrap, spec.model, quantization, scores=False, new_head=False)
    with _told_as_model_load(spec.model):
        folders = origins.merged(spec)
        model = adapters.merge(model, folders[:-1])
        return (adapters.put_on(model, folders[-1]) if folders else model).requires_grad_(False).eval()


def load_frozen(
    bootstrap: trainer_pb2.Bootstrap, field: str, weights: weights_pb2.Weights, *, scores: bool = False
) -> Any:
    """A model that is not trained: a folder's, or the base of an adapter with that merged. `scores`: a reward model.

    `field` names it when it is refused: it must know every token of the model that is trained.
    """
    model = training_pb2.Model()
    model.CopyFrom(bootstrap.spec.model)
    model.path = weights.base_path or weights.path
    loaded = _load(bootstrap, model, None, scores=scores, new_head=bool(weights.base_path))
    with _told_as_model_load(model):
        if weights.base_path:
            loaded = adapters.merge(loaded, origins.chain(Path(weights.path)))
    theirs, ours = loaded.get_input_embeddings().num_embeddings, len(load_tokenizer(bootstrap))
    if theirs < ours:
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"{field} knows {theirs} tokens, and the tokenizer of the model has {ours}",
            "give a model with the vocabulary of the one that is trained",
        )
    return loaded.requires_grad_(False).eval()


def _load(
    bootstrap: trainer_pb2.Bootstrap,
    model: training_pb2.Model,
    quantization: BitsAndBytesConfig | None,
    *,
    scores: bool,
    new_head: bool,
) -> Any:
    spec = bootstrap.spec
    with _told_as_model_load(model):
        loaded, loading = (AutoModelForSequenceClassification if scores else AutoModelForCausalLM).from_pretrained(
            source(model),
            **_origin(bootstrap),
            **({"num_labels": 1} if scores else {}),
            dtype=DTYPES[model.dtype],
            attn_implementation=_ATTENTION[model.attention],
            quantization_config=quantization,
            use_safetensors=True,
            # One that is divided is loaded to the host, and goes to the GPUs in parts.
            device_map={"": "cpu" if on_cpu(spec) or is_divided(spec) else torch.cuda.current_device()},
            output_loading_info=True,
        )
    if missing := sorted(key for key in loading["missing_keys"] if not (new_head and key.startswith("score."))):
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"the weights of {portable_name(model)} lack {len(missing)} tensors of the model, e.g. {missing[0]}",
            _ADVICE,
        )
    return loaded


def load_tokenizer(bootstrap: trainer_pb2.Bootstrap) -> Any:
    """The tokenizer of what is trained, with the chat template of the spec where it gives one."""
    spec = bootstrap.spec
    with _told_as_model_load(spec.model):
        tokenizer = AutoTokenizer.from_pretrained(
            origins.tokenizer_folder(spec) or source(spec.model), **_origin(bootstrap)
        )
        templates.put_on(tokenizer, spec.data)
    return tokenizer


def source(model: training_pb2.Model) -> str:
    """What the libraries load it from: a folder, or a hub's repository."""
    return model.path or model.hub_id


def _origin(bootstrap: trainer_pb2.Bootstrap) -> dict[str, Any]:
    return {
        "revision": bootstrap.spec.model.revision or None,
        "local_files_only": not bootstrap.allow_hub,
        "trust_remote_code": bootstrap.allow_remote_code,
    }


@contextlib.contextmanager
def _told_as_model_load(model: training_pb2.Model) -> Iterator[None]:
    if model.path and not os.access(Path(model.path) / "config.json", os.R_OK):
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD, f"{model.path} is not a readable model folder any more", _ADVICE
        )
    try:
        yield
    except Exception as error:
        # Out of memory and a full disk stay what they are; anything else that loading raises is about the model.
        if classify(error, rank=0).failure_class != event_pb2.FAILURE_CLASS_INTERNAL:
            raise
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD, f"{portable_name(model)} cannot be loaded: {error}", _ADVICE
        ) from error
