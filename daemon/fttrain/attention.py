"""Padding-free batches: the rows of a batch go through the model as one long row, and none of them sees another.

It stands in two places that others left open for it: an attention function registered with transformers, which runs
SDPA row by row, and two hooks on the model's decoder, which take the padding out before it and put it back after it.
So a trainer gives and gets padded batches as ever. It must never change what a model computes: a model whose attention
cannot be told where rows end keeps its padding.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# "sdpa" in the name has transformers check that the model can do without a mask.
BY_ROW = "sdpa_by_row"
_LAYERS = {"full_attention", "sliding_attention"}


@dataclass(frozen=True, slots=True)
class Row:
    """The pieces of the long row that make one row; of its first tokens, `borrowed` lie with another row."""

    pieces: tuple[int, ...]
    borrowed: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """How the rows of a batch lie end to end: lengths of all pieces in their order, and the rows they make."""

    pieces: tuple[int, ...]
    rows: tuple[Row, ...]
    # The place in the long row of each token of the padded batch, (batch * length); None: nothing to put back.
    places: Tensor | None = None

    @staticmethod
    def packed(boundaries: Tensor) -> Rows:
        """Rows that came end to end, from their cumulative lengths."""
        lengths = tuple(boundaries.diff().tolist())
        return Rows(lengths, tuple(Row((index,)) for index in range(len(lengths))))


def why_not(model: Any) -> str:
    """Why the model must keep its padding; empty if it need not."""
    model = _base(model)
    config = model.config.get_text_config()
    if not (model._supports_attention_backend and model._supports_sdpa and model._supports_flash_attn):
        return "its attention cannot be told where rows end"
    if others := set(getattr(config, "layer_types", None) or ()) - _LAYERS:
        return f"it has layers of {', '.join(sorted(others))}"
    if model.config._attn_implementation not in ("sdpa", BY_ROW, "flash_attention_2"):
        return f"its attention is {model.config._attn_implementation}"
    return ""


def remove_padding(model: Any, *, pairs: bool = False) -> None:
    """Lets the decoder of `model` run without padding.

    With `pairs`, the second half of each batch continues the rows of the first half, and what both begin with runs
    once. Raises ValueError where `why_not` has a reason.
    """
    if reason := why_not(model):
        raise ValueError(reason)
    model = _base(model)
    by_row = model.config._attn_implementation != "flash_attention_2"
    if by_row:
        model.set_attn_implementation(BY_ROW)
    names = tuple(inspect.signature(model.base_model.forward).parameters)

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = dict(zip(names, args, strict=False)) | kwargs
        return (), _laid_out(given, pairs=pairs and by_row, by_row=by_row)

    model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    model.base_model.register_forward_hook(_put_back, with_kwargs=True)


def _base(model: Any) -> Any:
    """The model below its adapters."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _laid_out(kwargs: dict[str, Any], *, pairs: bool, by_row: bool) -> dict[str, Any]:
    """The decoder's arguments for one long row; unchanged where there is no padding or earlier keys and values are."""
    mask, cached = kwargs.get("attention_mask"), kwargs.get("cache", kwargs.get("past_key_values"))
    if mask is None and by_row and kwargs.get("cu_seq_lens_q") is not None:
        boundaries = kwargs["cu_seq_lens_q"]
        return kwargs | {"rows": Rows.packed(boundaries), "attention_mask": _no_mask(boundaries.device)}
    if mask is None or mask.ndim != 2 or cached is not None:
        return kwargs
    ids = kwargs.get("input_ids")
    rows, kept = _without_padding(mask.bool(), ids if pairs else None)
    positions = kwargs.get("position_ids")
    flat = {"position_ids": positions.expand_as(mask) if positions is not None else (mask.long().cumsum(1) - 1)}
    flat |= {name: kwargs[name] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None}
    changed = {name: value.flatten(0, 1)[kept][None] for name, value in flat.items()}
    changed |= {"rows": rows, "use_cache": False}
    changed |= {"attention_mask": _no_mask(mask.device)} if by_row else _boundaries(rows, mask.device)
    return kwargs | changed


def _without_padding(mask: Tensor, ids: Tensor | None) -> tuple[Rows, Tensor]:
    """The rows, and the places in the padded batch (batch * length) of the tokens that are kept."""
    taken, half = mask.clone(), len(mask) // 2
    second = len(mask) - half
    same = torch.zeros_like(mask[:half])
    if ids is not None and 2 * half == len(mask):
        same = ((ids[:half] == ids[second:]) & mask[:half] & mask[second:]).long().cumprod(1).bool()
    taken[second:] &= ~same
    places = (taken.flatten().long().cumsum(0) - 1).clamp(min=0).view(mask.shape)
    places[second:] = torch.where(same, places[:half], places[second:])
    pieces, rows = _pieces(mask.sum(1).tolist(), same.sum(1).tolist())
    return Rows(pieces, rows, places.flatten()), taken.flatten().nonzero().flatten()


def _pieces(lengths: list[int], shared: list[int]) -> tuple[tuple[int, ...], tuple[Row, ...]]:
    """Of each row, and of what the last of them share with the first."""
    pieces: list[int] = []
    rows: list[Row] = []
    for index, length in enumerate(lengths):
        twin = index - (len(lengths) - len(shared))
        if twin >= 0 and shared[twin]:
            pieces.append(length - shared[twin])
            rows.append(Row((rows[twin].pieces[0], len(pieces) - 1), shared[twin]))
            continue
        own = [shared[index], length - shared[index]] if index < len(shared) and shared[index] else [length]
        rows.append(Row(tuple(range(len(pieces), len(pieces) + len(own)))))
        pieces += own
    return tuple(pieces), tuple(rows)


def _no_mask(device: torch.device) -> Tensor:
    """A mask of four dimensions is passed on as it is, so none is made; any attention but ours fails on this one."""
    return torch.empty((1, 1, 0, 0), device=device)


def _boundaries(rows: Rows, device: torch.device) -> dict[str, Any]:
    """What flash attention calls the ends of rows."""
    ends = torch.tensor((0, *rows.pieces), device=device).cumsum(0, dtype=torch.int32)
    longest = max(rows.pieces)
    return {
        "attention_mask": None,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }


def _put_back(_: Any, __: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The hidden states, and what routers said of each token, as of the padded batch; padding has some token's."""
    rows = kwargs.get("rows")
    if rows is None or rows.places is None:
        return output
    # The mask that was given is gone, but it had as many rows.
    batch = len(rows.rows)
    output.last_hidden_state = output.last_hidden_state[0][rows.places].unflatten(0, (batch, -1))
    if getattr(output, "router_logits", None):
        output.router_logits = tuple(each[rows.places] for each in output.router_logits)
    return output


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sliding_window: int | None = None,
    rows: Rows | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """SDPA row by row: (1, heads, tokens, width) to (1, tokens, heads, width). Without `rows` it is the library's."""
    if rows is None:
        answer, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return answer, None
    # All pieces of one split have one gradient; slices would have one of full length each.
    parts = [torch.split(tensor, list(rows.pieces), dim=2) for tensor in (query, key, value)]
    answers = []
    for row in rows.rows:
        q, k, v = (_joined(part, row) for part in parts)
        if row.borrowed == q.shape[2]:
            continue
        mask = _window(q, sliding_window) if sliding_window and q.shape[2] > sliding_window else None
        answer, _ = sdpa_attention_forward(module, q, k, v, mask, **kwargs)
        answers.append(answer[:, row.borrowed :])
    return torch.cat(answers, dim=1), None


def _joined(part: tuple[Tensor, ...], row: Row) -> Tensor:
    first, *rest = row.pieces
    return torch.cat([part[index] for index in row.pieces], dim=2) if rest else part[first]


def _window(query: Tensor, width: int) -> Tensor:
    """Each token sees itself and the `width` - 1 before it."""
    behind = torch.arange(query.shape[2], device=query.device)
    behind = behind[:, None] - behind[None, :]
    return (behind >= 0) & (behind < width)


AttentionInterface.register(BY_ROW, attend)
AttentionMaskInterface.register(BY_ROW, sdpa_mask)
