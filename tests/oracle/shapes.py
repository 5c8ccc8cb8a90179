"""The models that are tried: config.json of real ones, with four layers, since the peak is linear in their number."""

from __future__ import annotations

from typing import Any

LAYERS = 4


def _decoder(
    model_type: str,
    hidden: int,
    inner: int,
    heads: int,
    groups: int,
    vocabulary: int,
    *,
    tied: bool = False,
    **more: Any,
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": tied,
        **more,
    }


_FEW_EXPERTS: dict[str, Any] = {
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 768,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
SHAPES: dict[str, dict[str, Any]] = {
    "Llama-3-8B": _decoder("llama", 4096, 14336, 32, 8, 128256),
    "SmolLM2-135M": _decoder("llama", 576, 1536, 9, 3, 49152, tied=True),
    "Mistral-7B": _decoder("mistral", 4096, 14336, 32, 8, 32000, sliding_window=None),
    "Qwen2.5-0.5B": _decoder("qwen2", 896, 4864, 14, 2, 151936, tied=True, use_sliding_window=False),
    "Qwen3-4B": _decoder("qwen3", 2560, 9728, 32, 8, 151936, tied=True, head_dim=128),
    "SmolLM3-3B": _decoder("smollm3", 2048, 11008, 16, 4, 128256, tied=True),
    "Gemma-2B": _decoder("gemma", 2048, 16384, 8, 1, 256000, tied=True, head_dim=256),
    "Gemma-2-2B": _decoder("gemma2", 2304, 9216, 8, 4, 256000, tied=True, head_dim=256, sliding_window=4096),
    "Gemma-3-1B": _decoder("gemma3_text", 1152, 6912, 4, 1, 262144, tied=True, head_dim=256, sliding_window=512),
    "Granite-3-2B": _decoder("granite", 2048, 8192, 32, 8, 49155, tied=True),
    "Phi-3-mini": _decoder("phi3", 3072, 8192, 32, 32, 32064),
    "Phi-2": _decoder("phi", 2560, 10240, 32, 32, 51200),
    "GLM-4-9B": _decoder("glm", 4096, 13696, 32, 2, 151552, head_dim=128, attention_bias=True),
    "GPT-2": {
        "model_type": "gpt2",
        "n_embd": 768,
        "n_layer": LAYERS,
        "n_head": 12,
        "n_positions": 1024,
        "vocab_size": 50257,
    },
    "Pythia-1B": {
        "model_type": "gpt_neox",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "vocab_size": 50304,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    "Mixtral": _decoder("mixtral", 1024, 3584, 16, 4, 32000, num_local_experts=8, num_experts_per_tok=2),
    "Qwen3-MoE": _decoder("qwen3_moe", 2048, 6144, 32, 4, 151936, head_dim=128, **_FEW_EXPERTS),
}
