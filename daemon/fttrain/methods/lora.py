"""Low-rank adapters, beside weights as they are or quantised. It must never apply a default the spec leaves open."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig

from finetuned.v1 import training_pb2
from fttrain.methods.parts import DTYPES, Method, modules

_QUANT_TYPES = {training_pb2.QUANT_TYPE_NF4: "nf4", training_pb2.QUANT_TYPE_FP4: "fp4"}
_INITS: dict[int, bool | str] = {
    training_pb2.LORA_INIT_DEFAULT: True,
    training_pb2.LORA_INIT_GAUSSIAN: "gaussian",
    training_pb2.LORA_INIT_PISSA: "pissa",
    training_pb2.LORA_INIT_OLORA: "olora",
    training_pb2.LORA_INIT_ORTHOGONAL: "orthogonal",
}
# They take what the adapter begins with out of the base weights.
_CHANGING_INITS = (training_pb2.LORA_INIT_PISSA, training_pb2.LORA_INIT_OLORA)
_BIASES = {training_pb2.LORA_BIAS_ALL: "all", training_pb2.LORA_BIAS_LORA_ONLY: "lora_only"}


class Lora(Method):
    """Low-rank adapters beside frozen weights."""

    def part(self, spec: training_pb2.TrainingSpec) -> training_pb2.Lora:
        """What the spec says of the adapter."""
        return spec.lora

    def adapter(self, spec: training_pb2.TrainingSpec) -> LoraConfig:
        """As the spec says."""
        return _lora_config(self.part(spec))

    def settle(self, spec: training_pb2.TrainingSpec, trainer: Any) -> None:
        """An optimizer with two rates, for LoRA+; and what the adapter began as, where the base weights gave it."""
        lora = self.part(spec)
        if lora.init in _CHANGING_INITS:
            state = _adapter_state(trainer.model)
            trainer.model.beginning = {name: weight.clone() for name, weight in state.items() if "lora_" in name}
        if lora.HasField("loraplus_lr_ratio"):
            kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
            trainer.optimizer = create_loraplus_optimizer(
                trainer.model,
                kind,
                loraplus_lr_ratio=lora.loraplus_lr_ratio,
                loraplus_lr_embedding=lora.loraplus_embedding_lr,
                loraplus_weight_decay=spec.optimizer.weight_decay,
                **options,
            )

    def save(self, spec: training_pb2.TrainingSpec, model: Any, folder: Path, weights: Any = None) -> None:
        """Writes the adapter; one that began in the base weights as an ordinary one of twice the rank."""
        if self.part(spec).init not in _CHANGING_INITS:
            super().save(spec, model, folder, weights)
            return
        state = _adapter_state(model, weights)
        for name, begun in model.beginning.items():
            rows = "lora_A" in name
            state[name] = torch.cat([state[name], begun if rows else -begun], dim=0 if rows else 1)
        save_file({name: weight.contiguous() for name, weight in state.items()}, folder / SAFETENSORS_WEIGHTS_NAME)
        _doubled(model.peft_config["default"]).save_pretrained(folder)


class Qlora(Lora):
    """LoRA over quantised weights."""

    def part(self, spec: training_pb2.TrainingSpec) -> training_pb2.Lora:
        """What the spec says of the adapter."""
        return spec.qlora.lora

    def quantization(self, spec: training_pb2.TrainingSpec) -> BitsAndBytesConfig:
        """Four or eight bits by bitsandbytes."""
        qlora = spec.qlora
        if qlora.quant_type == training_pb2.QUANT_TYPE_INT8:
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=_QUANT_TYPES[qlora.quant_type],
            bnb_4bit_use_double_quant=qlora.double_quant,
            bnb_4bit_compute_dtype=DTYPES[qlora.compute_dtype],
            bnb_4bit_quant_storage=DTYPES[qlora.storage_dtype] if qlora.HasField("storage_dtype") else None,
        )

    def settle_dtype(self, spec: training_pb2.TrainingSpec, model: Any) -> None:
        """TRL makes adapters on quantised weights bfloat16; where fp32 is computed, they are to be fp32 as well."""
        if spec.compute.precision == training_pb2.DTYPE_FP32:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()


def _lora_config(lora: training_pb2.Lora) -> LoraConfig:
    init = _INITS.get(lora.init, True)
    if lora.HasField("pissa_iterations"):
        init = f"pissa_niter_{lora.pissa_iterations}"
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_pattern or modules(lora.target_modules),
        exclude_modules=_excluded(lora),
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        modules_to_save=list(lora.modules_to_save) or None,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        bias=_BIASES.get(lora.bias, "none"),
        init_lora_weights=init,
    )


def _excluded(lora: training_pb2.Lora) -> str | list[str] | None:
    """The modules without an adapter, and those of layers that are not chosen: PEFT takes no layers with all-linear."""
    names = list(lora.exclude_modules)
    if not lora.layers:
        return names or None
    layers = "|".join(map(str, lora.layers))
    elsewhere = rf"(?!\D*\.(?:{layers})\.).*"
    return "|".join([elsewhere, *(rf"(?:.*\.)?{re.escape(name)}" for name in names)])


def _adapter_state(model: Any, weights: Any = None) -> dict[str, torch.Tensor]:
    return dict(get_peft_model_state_dict(model, state_dict=weights, save_embedding_layers=False))


def _doubled(config: LoraConfig) -> LoraConfig:
    """The configuration for the adapter less the one it began as: two of the same rank side by side."""
    doubled = copy.deepcopy(config)
    doubled.init_lora_weights, doubled.inference_mode = True, True
    doubled.r *= 2
    doubled.lora_alpha *= 2**0.5 if config.use_rslora else 2
    doubled.rank_pattern = {key: 2 * rank for key, rank in (config.rank_pattern or {}).items()}
    doubled.alpha_pattern = {key: 2 * alpha for key, alpha in (config.alpha_pattern or {}).items()}
    return doubled
