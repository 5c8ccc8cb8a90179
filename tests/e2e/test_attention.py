"""Batches without padding: what a model makes of a row, and the gradients, are those of the padded batch."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from fttrain import attention

SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0}
GPT2 |= {"eos_token_id": 1, "resid_pdrop": 0, "attn_pdrop": 0, "embd_pdrop": 0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "output_router_logits": True}
MODELS: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    # Windows that are shorter than the rows.
    "mistral": SMALL | {"sliding_window": 5},
    "qwen2": SMALL,
    "qwen3": SMALL | {"head_dim": 8},
    "gemma": SMALL | {"head_dim": 8},
    "gemma3_text": SMALL | {"head_dim": 8, "sliding_window": 4},
    "phi3": SMALL,
    "gpt2": GPT2,
    "gpt_neox": SMALL,
    "qwen3_moe": SMALL | {"head_dim": 8} | EXPERTS,
}
# Chosen answers, then rejected ones; the third row begins as the first, the fourth as the second.
LENGTHS = (9, 7, 12, 10)
SHARED = 5


def model_of(kind: str, implementation: str = "sdpa") -> Any:
    torch.manual_seed(1)
    config = CONFIG_MAPPING[kind](**MODELS[kind])
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(2, 97, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(2))
    ids[2:, :SHARED] = ids[:2, :SHARED]
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return ids.masked_fill(~mask, 1), mask.long()


def learned(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits of real tokens, and the gradients of what they say of the tokens themselves."""
    model.zero_grad()
    out = model(input_ids=ids, attention_mask=mask)
    real = mask.bool()
    balance = getattr(out, "aux_loss", None)
    loss = torch.nn.functional.cross_entropy(out.logits[real], ids[real])
    torch.autograd.backward(loss if balance is None else loss + balance)
    return out.logits[real].detach(), {name: weight.grad for name, weight in model.named_parameters()}


@pytest.mark.parametrize("pairs", [False, True], ids=["rows", "pairs"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_row_is_what_it_was_in_the_padded_batch(kind: str, pairs: bool) -> None:
    padded = model_of(kind)
    ids, mask = batch()
    logits, gradients = learned(padded, ids, mask)
    free = deepcopy(padded)
    attention.remove_padding(free, pairs=pairs)
    for recomputes in (False, True):
        if recomputes:
            free.activation_checkpointing_enable({"use_reentrant": False})
            free.train()
        found, ours = learned(free, ids, mask)
        torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("pairs", [False, True], ids=["rows", "pairs"])
def test_what_is_computed_has_no_padding(pairs: bool) -> None:
    model = model_of("llama")
    attention.remove_padding(model, pairs=pairs)
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    ids, mask = batch()
    model(input_ids=ids, attention_mask=mask)
    assert seen == [sum(LENGTHS) - (2 * SHARED if pairs else 0)]


def test_rows_that_come_end_to_end_do_not_see_each_other() -> None:
    model = model_of("llama")
    ids, mask = batch()
    alone = [model(input_ids=row[None, :length]).logits[0] for row, length in zip(ids, LENGTHS, strict=True)]
    attention.remove_padding(model)
    ends = torch.tensor((0, *LENGTHS)).cumsum(0, dtype=torch.int32)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    packed = model(input_ids=ids[mask.bool()][None], position_ids=positions, cu_seq_lens_q=ends, cu_seq_lens_k=ends)
    torch.testing.assert_close(packed.logits[0], torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_text_is_written_as_before() -> None:
    model = model_of("qwen3")
    ids, mask = batch()
    # Prompts are padded on the left.
    given = {"input_ids": ids.flip(1), "attention_mask": mask.flip(1), "max_new_tokens": 5, "do_sample": False}
    before = model.generate(**given)
    attention.remove_padding(model)
    assert model.generate(**given).equal(before)


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("llama", lambda model: model.set_attn_implementation("eager"), "its attention is eager"),
        (
            "gemma3_text",
            lambda model: model.config.layer_types.append("chunked_attention"),
            "it has layers of chunked_att",
        ),
    ],
)
def test_a_model_that_needs_padding_says_why(kind: str, spoil: Callable[[Any], None], reason: str) -> None:
    model = model_of(kind)
    assert not attention.why_not(model)
    spoil(model)
    assert attention.why_not(model).startswith(reason)
    with pytest.raises(ValueError, match=reason):
        attention.remove_padding(model)


def test_an_attention_that_does_not_know_rows_fails_loudly() -> None:
    """Were a model to lose what tells its rows apart, it must not train on."""
    model = model_of("llama")
    attention.remove_padding(model)
    model.set_attn_implementation("sdpa")
    ids, mask = batch()
    with pytest.raises(RuntimeError):
        model(input_ids=ids, attention_mask=mask)
