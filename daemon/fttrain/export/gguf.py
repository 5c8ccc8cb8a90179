"""Writes a model folder as one GGUF file, tensor by tensor, so that memory is that of the largest one.

The `gguf` package knows the names and the number formats; what it does not know is here: a family's metadata, and that
llama's GGUF files have the rows of queries and keys in another order. It must never guess: what readers would take for
something else is refused, before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map
from gguf.quants import quant_shape_to_byte_shape, quantize
from numpy.typing import NDArray
from safetensors import safe_open

from finetuned.v1 import training_pb2
from fttrain.export import vocabulary


@dataclass(frozen=True, slots=True)
class Family:
    """Models whose GGUF files look alike."""

    arch: MODEL_ARCH
    # Rotary positions turn neighbouring rows, not rows half a head apart.
    turns_neighbours: bool = False


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, turns_neighbours=True),
    "mistral": Family(MODEL_ARCH.LLAMA, turns_neighbours=True),
    "qwen2": Family(MODEL_ARCH.QWEN2),
    "qwen3": Family(MODEL_ARCH.QWEN3),
}
_FORMATS = {
    training_pb2.GGUF_TYPE_F32: (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    training_pb2.GGUF_TYPE_F16: (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    training_pb2.GGUF_TYPE_BF16: (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    training_pb2.GGUF_TYPE_Q8_0: (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_ROPES = ("default", "llama3")
# Number formats that numpy does not have are written as bytes.
_AS_BYTES = (GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0)
_BLOCK = 32


def check(config: Any, tokenizer: Any) -> None:
    """Raises Refused if no GGUF file can be written of a model with this configuration and tokenizer."""
    if config.model_type not in FAMILIES:
        raise vocabulary.refused(f"its type is {config.model_type}; written are {', '.join(FAMILIES)}")
    if _rope(config)["rope_type"] not in _ROPES:
        raise vocabulary.refused(
            f"its rotary positions are scaled by {_rope(config)['rope_type']}; written is llama3's scaling"
        )
    vocabulary.splitting_rule(tokenizer)


def file_name(name: str, kind: training_pb2.GgufType.ValueType) -> str:
    """E.g. "support-v3.Q8_0.gguf"."""
    return f"{name}.{_FORMATS[kind][0].name}.gguf"


def write(folder: Path, target: Path, kind: training_pb2.GgufType.ValueType, config: Any, tokenizer: Any) -> None:
    """Writes the model in `folder` to `target`, its matrices in the format `kind`. Raises OSError."""
    family = FAMILIES[config.model_type]
    quantization, file_type = _FORMATS[kind]
    writer = GGUFWriter(target, MODEL_ARCH_NAMES[family.arch])
    writer.add_name(target.name.rsplit(".", 2)[0])
    writer.add_file_type(file_type)
    _add_shape(writer, config)
    vocabulary.add(writer, tokenizer, config.vocab_size)
    names = get_tensor_name_map(family.arch, config.num_hidden_layers)
    factors = _frequency_factors(config)
    if factors is not None:
        _announce(writer, "rope_freqs.weight", factors.shape, GGMLQuantizationType.F32)
    weights = {name: file for path in sorted(folder.glob("*.safetensors")) for file, name in _tensors(path)}
    for name, file in weights.items():
        shape = tuple(file.get_slice(name).get_shape())
        _announce(writer, _gguf_name(names, name), shape, _format(shape, quantization))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for name, file in weights.items():
        rows = _ordered(file.get_tensor(name), name, family, config)
        writer.write_tensor_data(quantize(rows, _format(rows.shape, quantization)))
    writer.close()


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head(config))
    writer.add_value_length(_head(config))
    writer.add_rope_dimension_count(_head(config))
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _announce(writer: GGUFWriter, name: str, shape: tuple[int, ...], quantization: GGMLQuantizationType) -> None:
    """Says that a tensor will come; they must be written in this order."""
    if quantization in _AS_BYTES:
        stored = quant_shape_to_byte_shape(shape, quantization)
        writer.add_tensor_info(name, stored, numpy.dtype(numpy.uint8), math.prod(stored), quantization)
    else:
        kind = numpy.dtype(numpy.float16 if quantization is GGMLQuantizationType.F16 else numpy.float32)
        writer.add_tensor_info(name, shape, kind, math.prod(shape) * kind.itemsize)


def _format(shape: tuple[int, ...], wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    """Norms and biases are small and matter; a row that blocks do not divide stays in 16 bits."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.F16 if wanted is GGMLQuantizationType.Q8_0 and shape[-1] % _BLOCK else wanted


def _ordered(weight: torch.Tensor, name: str, family: Family, config: Any) -> NDArray[numpy.float32]:
    """The tensor in fp32, its rows as the family's GGUF files have them."""
    projection = name.split(".")[-2]
    if family.turns_neighbours and projection in ("q_proj", "k_proj"):
        heads = config.num_attention_heads if projection == "q_proj" else config.num_key_value_heads
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        weight = halves.swapaxes(1, 2).reshape(weight.shape)
    array: NDArray[numpy.float32] = weight.to(torch.float32).contiguous().numpy()
    return array


def _frequency_factors(config: Any) -> NDArray[numpy.float32] | None:
    """What llama3's scaling divides each frequency of the rotary positions by; None without scaling."""
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * _frequencies(config) / (2 * math.pi)
    share = numpy.clip((turns - low) / (high - low), 0.0, 1.0)
    return numpy.asarray(1 / ((1 - share) / rope["factor"] + share), dtype=numpy.float32)


def _frequencies(config: Any) -> NDArray[numpy.float64]:
    halves = numpy.arange(0, _head(config), 2, dtype=numpy.float64) / _head(config)
    return numpy.asarray(1.0 / _rope(config)["rope_theta"] ** halves)


def _rope(config: Any) -> dict[str, Any]:
    return {"rope_type": "default", **config.rope_parameters}


def _head(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _gguf_name(names: Any, name: str) -> str:
    found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise vocabulary.refused(f"its tensor {name} has no name in GGUF files")
    return found


def _tensors(path: Path) -> Iterator[tuple[Any, str]]:
    """The opened file with the name of each tensor in it; nothing of them is read yet."""
    file: Any = safe_open(path, framework="pt")
    for name in file.keys():  # noqa: SIM118 - it is no mapping
        yield file, name
