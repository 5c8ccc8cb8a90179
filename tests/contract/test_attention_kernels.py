"""The daemon's list of models without scaled_dot_product_attention is the library's."""

from __future__ import annotations

import pytest
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from ftd.models import WITH_PADDING, WITHOUT_SDPA, ModelInfo


@pytest.mark.parametrize("model_type", sorted(WITHOUT_SDPA | {"llama", "qwen3", "gemma3_text", "phi3", "mistral"}))
def test_a_model_has_sdpa_unless_it_is_listed(model_type: str) -> None:
    has = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])._supports_sdpa
    assert has == (model_type not in WITHOUT_SDPA)


@pytest.mark.parametrize("model_type", sorted(WITH_PADDING | {"llama", "qwen3", "gemma3_text", "gpt2", "mistral"}))
def test_a_model_can_do_without_padding_unless_it_is_listed(model_type: str) -> None:
    kind = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type])
    can = kind._supports_attention_backend and kind._supports_flash_attn
    assert can == (model_type not in WITH_PADDING)
    assert ModelInfo({"model_type": model_type}, has_chat_template=False).needs_padding == (not can)
