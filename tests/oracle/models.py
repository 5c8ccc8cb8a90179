"""Makes a model from its config, as loading would leave it: of the right formats, quantised or not, without weights.

It must never read or write a file, nor ask the hub for anything.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes
import torch
from bitsandbytes.functional import QuantState
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch._subclasses.fake_tensor import unset_fake_temporarily
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
)
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers import AutoHfQuantizer


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of two words: the rows are tokens already, but the trainers want one."""
    words = Tokenizer(WordLevel({"<end>": 0, "<word>": 1}, unk_token="<word>"))  # noqa: S106  a token, not a secret
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")  # noqa: S106


def build(
    config: dict[str, Any], dtype: torch.dtype, attention: str, quantization: BitsAndBytesConfig | None, reward: bool
) -> Any:
    """The model as `from_pretrained` would leave it, under a fake mode. `reward`: with a head of one number."""
    cls = AutoModelForSequenceClassification if reward else AutoModelForCausalLM
    made = AutoConfig.for_model(**config, pad_token_id=0, eos_token_id=0, **({"num_labels": 1} if reward else {}))
    model = cls.from_config(made, dtype=dtype, attn_implementation=attention)
    if quantization is not None:
        _quantise(model, quantization, dtype)
    return model


def _quantise(model: Any, config: BitsAndBytesConfig, dtype: torch.dtype) -> None:
    """Real 4-bit layers around empty numbers; the head stays as it is."""
    # bitsandbytes' parameters cannot be made of fake tensors; these are on no device and are replaced at once.
    with unset_fake_temporarily():
        replace_with_bnb_linear(model, ["lm_head", "embed_out", "score"], config)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            _fill(module, config, dtype)
    model.is_loaded_in_4bit = model.is_quantized = True
    model.hf_quantizer = AutoHfQuantizer.from_config(config)


def _fill(layer: Any, config: BitsAndBytesConfig, dtype: torch.dtype) -> None:
    size, blocks = layer.weight.numel(), layer.weight.numel() // 64
    nested = config.bnb_4bit_use_double_quant
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8 if nested else torch.float32),
        shape=layer.weight.shape,
        code=torch.empty(16),
        blocksize=64,
        quant_type=config.bnb_4bit_quant_type,
        dtype=dtype,
        offset=torch.empty(()) if nested else None,
        state2=QuantState(
            absmax=torch.empty(-(-blocks // 256)), blocksize=256, code=torch.empty(256), dtype=torch.float32
        )
        if nested
        else None,
    )
    layer.weight = torch.nn.Parameter(torch.empty((size // 2, 1), dtype=torch.uint8), requires_grad=False)
    layer.weight.quant_state = layer.quant_state = state
    # PEFT asks the weight for these.
    layer.weight.compress_statistics, layer.weight.quant_type = nested, config.bnb_4bit_quant_type
    if layer.bias is not None:
        layer.bias = torch.nn.Parameter(torch.empty(layer.out_features, dtype=dtype), requires_grad=False)
