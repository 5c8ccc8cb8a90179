"""Which parameters are trained: one entry per method of the spec, looked up by the name of its field.

A method says how the base weights are loaded, which adapter goes on top, and which parameters move. It must never
touch the training objective; that is `stages`.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from finetuned.v1 import training_pb2

DTYPES = {
    training_pb2.DTYPE_FP32: torch.float32,
    training_pb2.DTYPE_BF16: torch.bfloat16,
    training_pb2.DTYPE_FP16: torch.float16,
}
_QUANT_TYPES = {training_pb2.QUANT_TYPE_NF4: "nf4", training_pb2.QUANT_TYPE_FP4: "fp4"}


class Method:
    """Trains every parameter as it was loaded; the other methods change a part of that."""

    def quantization(self, spec: training_pb2.TrainingSpec) -> BitsAndBytesConfig | None:
        """How the base weights are quantised while they are loaded."""
        return None

    def adapter(self, spec: training_pb2.TrainingSpec) -> LoraConfig | None:
        """The adapter to train instead of the base weights."""
        return None

    def choose_parameters(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Freezes what is not trained, before the trainer sees the model."""

    def settle_dtype(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Sets the format of the trained weights, after the trainer has put its adapter on."""


class Lora(Method):
    """Low-rank adapters beside frozen weights."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> LoraConfig:
        """As the spec says."""
        return _lora_config(spec.lora)


class Qlora(Method):
    """LoRA over 4-bit weights."""

    def quantization(self, spec: training_pb2.TrainingSpec) -> BitsAndBytesConfig:
        """Four bits by bitsandbytes; what is computed with them has the precision of the spec."""
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=_QUANT_TYPES[spec.qlora.quant_type],
            bnb_4bit_use_double_quant=spec.qlora.double_quant,
            bnb_4bit_compute_dtype=DTYPES[spec.compute.precision],
        )

    def adapter(self, spec: training_pb2.TrainingSpec) -> LoraConfig:
        """As the spec says."""
        return _lora_config(spec.qlora.lora)

    def settle_dtype(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """TRL makes adapters on 4-bit weights bfloat16; where fp32 is computed, they are to be fp32 as well."""
        if spec.compute.precision == training_pb2.DTYPE_FP32:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()


class Freeze(Method):
    """Only the last layers are trained."""

    def choose_parameters(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """Everything is frozen, then the last layers are not; embeddings and head stay."""
        model.requires_grad_(False)
        for layer in _decoder_layers(model)[-spec.freeze.trainable_layers :]:
            layer.requires_grad_(True)


METHODS: dict[str, Method] = {"lora": Lora(), "qlora": Qlora(), "full": Method(), "freeze": Freeze()}


def of(spec: training_pb2.TrainingSpec) -> Method:
    """The method that the spec names."""
    return METHODS[str(spec.WhichOneof("method"))]


def _lora_config(lora: training_pb2.Lora) -> LoraConfig:
    modules = list(lora.target_modules)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if modules == ["all-linear"] else modules,
        modules_to_save=list(lora.modules_to_save) or None,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        bias="none",
        init_lora_weights=True,
    )


def _decoder_layers(model: Any) -> Any:
    """The list of layers, told from other module lists by the number that the model's configuration gives."""
    count = model.config.get_text_config().num_hidden_layers
    lists = (module for module in model.modules() if isinstance(module, torch.nn.ModuleList))
    return next(layers for layers in lists if len(layers) == count)
