"""Low-rank adapters, beside weights as they are or quantised. It must never apply a default that the spec leaves open."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig

from finetuned.v1 import training_pb2
from fttrain.methods.parts import DTYPES, Method

_QUANT_TYPES = {training_pb2.QUANT_TYPE_NF4: "nf4", training_pb2.QUANT_TYPE_FP4: "fp4"}


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
