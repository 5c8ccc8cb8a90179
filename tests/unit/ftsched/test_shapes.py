"""Parameters as transformers counts them, for every family, from the fields a config.json has."""

from __future__ import annotations

from typing import Any

import pytest

from ftsched.shapes import NotAModel, shape_of

SMALL = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
GPT2 = {"n_embd": 256, "n_layer": 4, "n_head": 8, "vocab_size": 1000}
GPT_NEOX = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
QWEN_MOE = {**SMALL, "num_experts": 4, "moe_intermediate_size": 128, "decoder_sparse_step": 2, "mlp_only_layers": [1]}
# Counted on models that transformers made from these configs.
COUNTED: dict[str, tuple[dict[str, Any], int]] = {
    "llama": (SMALL, 2_742_528),
    "llama with biases": ({**SMALL, "attention_bias": True, "mlp_bias": True}, 2_750_208),
    "mistral": (SMALL, 2_742_528),
    "qwen2": (SMALL, 2_744_064),
    "qwen3": (SMALL, 4_709_632),
    "smollm3": (SMALL, 2_486_528),
    "gemma": (SMALL, 7_074_048),
    "gemma2": (SMALL, 7_076_096),
    "gemma3_text": (SMALL, 7_078_144),
    "phi3": (SMALL, 2_742_528),
    "gpt2": (GPT2, 3_677_696),
    "gpt_neox": (GPT_NEOX, 2_620_928),
    "mixtral": ({**SMALL, "num_local_experts": 4}, 7_465_216),
    "qwen3_moe": (QWEN_MOE, 2_743_808),
    "qwen2_moe": ({**QWEN_MOE, "shared_expert_intermediate_size": 96}, 2_819_072),
}


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_counted_exactly(name: str) -> None:
    fields, count = COUNTED[name]
    shape = shape_of({"model_type": name.split()[0], **fields})
    assert shape.parameters == count
    assert shape.known


def test_experts_are_not_linear_modules() -> None:
    shape = shape_of({"model_type": "mixtral", **SMALL, "num_local_experts": 4})
    assert [matrix.name for matrix in shape.matrices] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert shape.linear_weights == 4 * shape.layer_weights


def test_a_multimodal_config_has_its_decoder_inside() -> None:
    text = {"model_type": "gemma3_text", **SMALL}
    assert shape_of({"model_type": "gemma3", "text_config": text}) == shape_of(text)


def test_an_unknown_type_is_taken_for_the_common_decoder() -> None:
    dense, sparse = (shape_of({"model_type": "novel", **SMALL, **more}) for more in ({}, {"n_routed_experts": 4}))
    assert not dense.known
    assert dense.parameters == shape_of({"model_type": "llama", **SMALL}).parameters
    assert sparse.experts is not None
    assert sparse.experts.count == 4


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [None, 0, "many", True])
def test_what_every_decoder_has_is_asked_for_by_name(field: str, value: object) -> None:
    with pytest.raises(NotAModel, match=field):
        shape_of({"model_type": "llama", **SMALL, field: value})


def test_a_window_that_is_not_used_is_none() -> None:
    assert shape_of({"model_type": "mistral", **SMALL, "sliding_window": 4096}).window == 4096
    assert shape_of({"model_type": "qwen2", **SMALL, "sliding_window": 4096, "use_sliding_window": False}).window == 0
