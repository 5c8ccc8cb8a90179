"""Makes a fake training step on a CPU take the memory that the real one takes on a GPU.

Fake tensors on "cuda" cannot run backward without a GPU, so the step runs on fake "cpu" tensors, and what differs
between the two devices is undone here, each difference with its reason. Nothing here may change what is computed, only
on which path of the libraries; no batch has values, so every question about values has one fixed answer.
"""

from __future__ import annotations

import contextlib
import pkgutil
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import bitsandbytes  # noqa: F401  registers its operations
import pytest
import torch
from tests.oracle.tracker import LiveStorages
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_map_only

from fttrain.attention import Row, Rows

aten = torch.ops.aten


@contextlib.contextmanager
def fake_gpu() -> Iterator[LiveStorages]:
    """Inside, every tensor is fake and counted as a GPU would hold it."""
    with pytest.MonkeyPatch.context() as patch:
        for target, replacement in _REPLACED.items():
            owner, _, name = target.rpartition(".")
            patch.setattr(pkgutil.resolve_name(owner), name, replacement)
        with FakeTensorMode(allow_non_fake_inputs=True), LiveStorages(_STANDS_IN, _SCRATCH) as storages:
            yield storages


def _item(tensor: torch.Tensor) -> Any:
    if tensor.dtype == torch.bool:
        return True
    return 1.0 if tensor.dtype.is_floating_point else 1


def _index(tensor: torch.Tensor, indices: Any) -> Any:
    if len(indices) == 1 and indices[0].dtype == torch.bool:
        return tensor.new_empty((indices[0].numel(), *tensor.shape[indices[0].dim() :]))
    return aten.index.Tensor(tensor, indices)


def _nonzero(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.new_empty((tensor.numel() // 2, tensor.dim()), dtype=torch.int64)


# Fake tensors have no values. A number read from one is 1 and a truth is True; a mask selects everything, which is the
# longest batch there can be; of the labels of a preference batch half are true.
_STANDS_IN: dict[Any, Any] = {
    aten._local_scalar_dense.default: _item,
    aten.index.Tensor: _index,
    aten.masked_select.default: lambda tensor, mask: tensor.new_empty(mask.numel()),
    aten.nonzero.default: _nonzero,
}


def _flash_scratch(grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, *_: Any, **__: Any) -> int:
    """In fp32 the queries' gradient and a number per row; keys' and values' gradients for each of the query's heads."""
    rows, heads, length, width = query.shape
    expanded = 2 * prod(query.shape) * query.element_size() if key.shape[1] != heads else 0
    return 4 * rows * heads * length * (width + 1) + expanded


def _efficient_scratch(grad: torch.Tensor, query: torch.Tensor, *_: Any, **__: Any) -> int:
    """In fp32 the queries' gradient and a number per row."""
    rows, heads, length, width = query.shape
    return 4 * rows * heads * length * (width + 1)


def _dequantised(a: torch.Tensor, b: torch.Tensor, shape: Any, *_: Any, **__: Any) -> int:
    """A matrix as it is multiplied, and its scales in fp32."""
    return int(prod(shape)) * (a.element_size() * 64 + 4) // 64


# What kernels take inside beyond their results, as their sources say.
_SCRATCH: dict[Any, Any] = {
    aten._scaled_dot_product_flash_attention_backward.default: _flash_scratch,
    aten._scaled_dot_product_efficient_attention_backward.default: _efficient_scratch,
    torch.ops.bitsandbytes.gemm_4bit.default: _dequantised,
}


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if attn_mask is None:
        out = aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)
        return out[0]
    bias = attn_mask
    if bias.dtype == torch.bool:
        bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill_(bias.logical_not(), -float("inf"))
    bias = bias.expand(*query.shape[:2], -1, -1)
    kernel = aten._scaled_dot_product_efficient_attention
    return kernel(query, key, value, bias, True, dropout_p, is_causal, scale=scale)[0]


def _can_do_without_mask(
    padding: torch.Tensor | None, queries: int, keys: int, _: int, __: int, window: int | None = None
) -> bool:
    return (window is None or keys < window) and (padding is None or padding.shape[0] == 1)


def _in_fp32(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as autocast runs it on a GPU, in fp32; on a CPU it would leave the format as it is."""

    def widened(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*tree_map_only(torch.Tensor, _widen, args), **tree_map_only(torch.Tensor, _widen, kwargs))

    return widened


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _dropout(tensor: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    return torch.native_dropout(tensor, p, True)[0] if training and p else tensor


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _rows_of_full_length(mask: torch.Tensor, _: torch.Tensor | None) -> tuple[Rows, torch.Tensor]:
    """Of fake tensors no lengths can be asked, and two answers have nothing in common."""
    count, length = mask.shape
    places = torch.arange(mask.numel(), device=mask.device)
    return Rows((length,) * count, tuple(Row((index,)) for index in range(count)), places), places


def _reference(trainer: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Fake tensors hold no tokens to remember a row by: it is asked each time, as in a first epoch."""
    found = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, inputs)
    return dict(zip(("ref_chosen_logps", "ref_rejected_logps"), found, strict=True))


_TENSORS = [torch.Tensor, torch.nn.Parameter, FakeTensor]
_REPLACED: dict[str, Any] = {
    # The CPU has other kernels than the two that a GPU takes: flash without a mask, memory-efficient with one.
    "torch.nn.functional.scaled_dot_product_attention": _attention,
    # Fake tensors are taken for those of a compiler, and then every batch gets a mask.
    "transformers.masking_utils.is_tracing": lambda _: False,
    # Rows side by side have different lengths, as the estimate assumes; a single row has no padding.
    "transformers.masking_utils._ignore_causal_mask_sdpa": _can_do_without_mask,
    # Fake parameters cannot be moved; nor need they, for all are on one device, in the format they were made in.
    "torch.nn.Module.to": lambda module, *_, **__: module,
    # Where there is Triton, TRL's head scores the labelled tokens only.
    "trl.trainer.utils._use_triton": lambda _: True,
    # On a GPU there is no other head than TRL's.
    "fttrain.losses.score_labels_only": _nothing,
    "fttrain.attention._without_padding": _rows_of_full_length,
    "fttrain.stages.dpo._RememberingDpoTrainer._reference": _reference,
    # Triton's kernels fold a tile in place, and cuBLAS adds to fp32 what it multiplies in 16 bits.
    "trl.kernels.chunked_logprob._forward_tile": _nothing,
    "trl.kernels.chunked_logprob._backward_tile": _nothing,
    "trl.kernels.chunked_logprob._addmm_fp32": lambda acc, a, b: acc.add_(0),
    # What a decoder calls of autocast's list for CUDA that is not on its list for the CPU: LayerNorm, and GELU's power.
    "torch.nn.functional.layer_norm": _in_fp32(torch.nn.functional.layer_norm),
    "torch.pow": _in_fp32(torch.pow),
    # On a GPU the mask is of one byte, on a CPU it has the format of the activations.
    "torch.nn.functional.dropout": _dropout,
    # Clipping and AdamW take all tensors at once on a GPU, and one by one on a CPU.
    "torch.optim.optimizer._get_foreach_kernels_supported_devices": lambda: ["cpu"],
    "torch.utils._foreach_utils._get_foreach_kernels_supported_devices": lambda: ["cpu"],
    "torch.optim.optimizer._foreach_supported_types": _TENSORS,
    "torch.utils._foreach_utils._foreach_supported_types": _TENSORS,
}
