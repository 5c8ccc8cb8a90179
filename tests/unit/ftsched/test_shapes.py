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
BLOOM = {"hidden_size": 256, "n_layer": 4, "n_head": 8, "vocab_size": 1000}
FALCON = {key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")}
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
    "granite": (SMALL, 2_742_528),
    "phi": (SMALL, 2_225_128),
    "glm": (SMALL, 4_714_752),
    "glm4": (SMALL, 4_716_800),
    "gpt_bigcode": (GPT2, 3_217_152),
    "gpt_bigcode with a key for each head": ({**GPT2, "multi_query": False}, 3_677_696),
    "falcon": (FALCON, 2_945_536),
    "falcon of the second kind": ({**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}, 3_013_120),
    "falcon in sequence": ({**FALCON, "multi_query": False, "bias": True, "parallel_attn": False}, 3_415_552),
    "bloom": (BLOOM, 3_416_064),
    "stablelm": (SMALL, 2_744_832),
    "stablelm in parallel": ({**SMALL, "use_qkv_bias": True, "use_parallel_residual": True}, 2_744_320),
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


# Published with the weights of each; their code is not transformers' own.
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "chatglm": (
        {
            "hidden_size": 4096,
            "ffn_hidden_size": 13696,
            "num_layers": 28,
            "num_attention_heads": 32,
            "multi_query_group_num": 2,
            "kv_channels": 128,
            "padded_vocab_size": 65024,
        },
        6_243_584_000,
    ),
    "qwen": (
        {
            "hidden_size": 4096,
            "intermediate_size": 22016,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "kv_channels": 128,
            "vocab_size": 151936,
        },
        7_721_324_544,
    ),
    "baichuan": (
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 125696,
        },
        7_505_973_248,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_with_code_of_their_own_have_the_parameters_they_are_published_with(name: str) -> None:
    fields, count = PUBLISHED[name]
    assert shape_of({"model_type": name, **fields}).parameters == count


def test_what_somebody_counted_is_taken() -> None:
    assert shape_of({"model_type": "novel", **SMALL}, 3_000_000).parameters == 3_000_000


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
