"""A whole model of an adapter and its base, made of the very weights that were trained on.

A base that was quantised is merged as it was in training, dequantised: the adapter has learnt to go with those weights,
not with the original ones. It must never read the base from its folder again, which may have changed meanwhile.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils.integrations import dequantize_module_weight


def merged(model: Any, dtype: torch.dtype) -> Any:
    """The base with the adapter in its weights, which are `dtype`; `model` is taken apart for it.

    A quantised base is put on the CPU, as its device has no room for the weights it stands for.
    """
    if not getattr(model.get_base_model(), "is_quantized", False):
        return converted(model.merge_and_unload(safe_merge=True), dtype)
    config = copy.deepcopy(model.peft_config["default"])
    # PEFT warns of a base that is called otherwise now.
    config.base_model_name_or_path = None
    # Those that are trained are modules to save; looking for more would ask the hub about the base.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    base = dequantised(model.unload(), dtype)
    again = get_peft_model(base, config)
    set_peft_model_state_dict(again, {name: weight.cpu() for name, weight in state.items()})
    return converted(again.merge_and_unload(safe_merge=True), dtype)


def converted(model: Any, dtype: torch.dtype) -> Any:
    """The model with weights in `dtype`: as it is if it has them, else on the CPU, as its device may have no room."""
    same = all(weight.dtype == dtype for weight in model.parameters())
    return model if same else model.to("cpu", dtype)


def dequantised(model: Any, dtype: torch.dtype) -> Any:
    """The model on the CPU with an ordinary linear layer, of weights in `dtype`, in place of each quantised one."""
    for name, module in list(model.named_modules()):
        if type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params"):
            model.set_submodule(name, _linear(module, dtype))
    model.hf_quantizer.remove_quantization_config(model)
    return model.to("cpu", dtype)


def _linear(quantised: Any, dtype: torch.dtype) -> torch.nn.Linear:
    with torch.device("meta"):
        linear = torch.nn.Linear(quantised.in_features, quantised.out_features, bias=quantised.bias is not None)
    linear.weight = torch.nn.Parameter(dequantize_module_weight(quantised).to("cpu", dtype), requires_grad=False)
    linear.bias = quantised.bias
    return linear
