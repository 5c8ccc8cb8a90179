"""The vocabulary's head on a CPU: only where labels are, a chunk of tokens at a time, its gradient made going forward.

TRL's own head does as much on GPUs with Triton; on a CPU it scores every position and makes each chunk of logits
twice. This one is put on a model as TRL puts its own, gives what TRL's gives, and leaves all else to it. It must never
be asked for the gradient of anything but the log-probabilities.
"""

from __future__ import annotations

import functools
from types import MethodType
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from trl.trainer.utils import FusedCausalLMOutput

# Logits at a time: enough for the head to be read seldom, 64 MiB each of logits and probabilities.
_CHUNK_LOGITS = 1 << 24
_SCALES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


def score_labels_only(model: Any) -> None:
    """Gives a model on a CPU this head in place of TRL's; a model that scales or caps its logits keeps that one."""
    if isinstance(model, PeftModel):
        model = model.get_base_model()
    config = model.config.get_text_config()
    if model.device.type != "cpu" or any(getattr(config, name, None) not in (None, 1.0) for name in _SCALES):
        return
    theirs = model.forward

    @functools.wraps(type(model).forward)
    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, **kwargs: Any) -> Any:
        # TRL's knows how to balance experts, and which labels go where when sequences are split.
        if not fused_lm_head or labels is None or kwargs.get("output_router_logits") or "shift_labels" in kwargs:
            return theirs(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        kwargs.pop("num_items_in_batch", None)
        hidden = self.base_model(*args, **kwargs | {"use_cache": False}).last_hidden_state
        return _scored(self.get_output_embeddings(), hidden[:, :-1], labels[:, 1:])

    model.forward = MethodType(forward, model)


def _scored(head: Any, hidden: Tensor, labels: Tensor) -> FusedCausalLMOutput:
    """The scores of labels (batch, length), zero where the label is -100, from hidden states (batch, length, width)."""
    mask = labels != -100
    found = LabelScores.apply(hidden[mask], head.weight, head.bias, labels[mask])
    log_probs, entropy, mean_logits, is_top1 = (each.new_zeros(mask.shape).masked_scatter(mask, each) for each in found)
    return FusedCausalLMOutput(
        log_probs=log_probs, entropy=entropy, mean_logits=mean_logits, is_top1=is_top1, label_mask=mask
    )


class LabelScores(torch.autograd.Function):
    """Log-probability, entropy, mean logit and whether it is the likeliest, for each label, without all logits at once.

    Takes hidden states (labels, width), the head's weight (vocabulary, width) and bias, and labels. Where the head is
    frozen, the gradient of a hidden state is known going forward but for one factor, so nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four scores, (labels,) each."""
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        ahead = needs_hidden and not needs_weight and not needs_bias
        directions = torch.empty_like(hidden) if ahead else None
        found = []
        for start, logits in _chunks(hidden, weight, bias):
            here = slice(start, start + len(logits))
            target = logits.gather(1, labels[here, None]).squeeze(1)
            top, likeliest = logits.max(1)
            # Of one pass: what the probabilities are shares of.
            shares = logits.sub(top[:, None]).exp_()
            whole = shares.sum(1)
            total = top + whole.log()
            entropy = total - torch.linalg.vecdot(shares, logits) / whole
            found.append((target - total, entropy, logits.mean(1), likeliest == labels[here]))
            if directions is not None:
                # For its label a hidden state goes to the label's row of the head, away from the mean of all rows.
                mean = shares.to(weight.dtype) @ weight / whole[:, None].to(weight.dtype)
                directions[here] = weight[labels[here]] - mean
        ctx.save_for_backward(*((directions,) if ahead else (hidden, weight, bias, labels)))
        scores = tuple(torch.cat(each) for each in zip(*found, strict=True))
        log_probs, entropy, mean_logits, is_top1 = scores
        ctx.mark_non_differentiable(entropy, mean_logits, is_top1)
        return log_probs, entropy, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """From the gradient of the log-probabilities, (labels,), to those of the first three arguments."""
        if len(ctx.saved_tensors) == 1:
            return ctx.saved_tensors[0] * gradient[:, None].to(ctx.saved_tensors[0].dtype), None, None, None
        hidden, weight, bias, labels = ctx.saved_tensors
        to_hidden = torch.empty_like(hidden)
        to_weight = torch.zeros_like(weight, dtype=torch.float32)
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None else None
        for start, logits in _chunks(hidden, weight, bias):
            here = slice(start, start + len(logits))
            pull = logits.sub_(logits.logsumexp(1, keepdim=True)).exp_().neg_()
            pull.scatter_add_(1, labels[here, None], torch.ones_like(pull[:, :1]))
            pull *= gradient[here, None]
            to_hidden[here] = pull.to(weight.dtype) @ weight
            to_weight.addmm_(pull.T, hidden[here].float())
            if to_bias is not None:
                to_bias += pull.sum(0)
        return to_hidden, to_weight.to(weight.dtype), to_bias.to(bias.dtype) if to_bias is not None else None, None


def _chunks(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    """The logits in fp32 of a few tokens at a time, each with the number of its first; one empty chunk without any."""
    size = max(1, _CHUNK_LOGITS // len(weight))
    for start in range(0, max(1, len(hidden)), size):
        yield start, functional.linear(hidden[start : start + size], weight, bias).float()
