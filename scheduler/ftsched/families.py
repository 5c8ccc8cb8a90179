"""What a model type does that its config.json does not say: one row per type, each read from its class in transformers.

The names are those that transformers (or, for chatglm, qwen and baichuan, the model's own code) gives the matrices of a
layer. A table and nothing else: `ftsched.shapes` turns a row and a config into widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A gated MLP; one kernel of GELU; the GELU that is written out in single operations.
Mlp = Literal["gated", "gelu", "gelu_new"]
# Which matrices have a bias: none but those a config turns on, those that make queries, keys and values, or all.
Biases = Literal["none", "qkv", "all"]

SEPARATE = ("q_proj", "k_proj", "v_proj", "o_proj")
GATED = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Sparse:
    """What a sparse model type does with its experts."""

    width: str = "moe_intermediate_size"
    shared_width: str = ""
    # PEFT's all-linear adapts the experts too, though they are not linear modules.
    adapted: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """What a model type does that its config does not say."""

    # With two names one matrix makes queries, keys and values; with two names a gated MLP has one for gate and up.
    attention: tuple[str, ...] = SEPARATE
    mlp_names: tuple[str, ...] = GATED
    mlp: Mlp = "gated"
    norms: int = 2
    layer_norm: bool = False
    # Gemma's norms keep their result in fp32.
    fp32_norms: bool = False
    qk_norm: bool = False
    biases: Biases = "none"
    # What `attention_bias` is where the config does not say, and whether it is for the output's matrix too.
    attention_bias: bool = False
    output_bias: bool = True
    head_bias: bool = False
    # Norms of the embedding, before the first layer.
    embedding_norm: bool = False
    # Learned positions, if the class has them: how many where the config does not say.
    positions: int = 0
    # Queries and keys are rotated copies, but values a view, which keeps all that the one matrix made.
    keeps_fused: bool = False
    # Attention and MLP read the same tensor of the residual stream.
    parallel: bool = False
    # Its config asks for dropout if nobody says otherwise: two masks a layer.
    drops: bool = False
    tied: bool = False
    head_dim: int | None = None
    # Paths of the list of layers, of embedding and head; and in a layer of the parts that a matrix without a dot is in.
    layers: str = "model.layers"
    embedding: str = "model.embed_tokens"
    head: str = "lm_head"
    parts: tuple[str, str] = ("self_attn", "mlp")
    # What its attention cannot run on: capped scores take away SDPA, a bias by distance the flash kernel as well.
    sdpa: bool = True
    flash: bool = True
    sparse: Sparse | None = None

    @property
    def fused(self) -> bool:
        """Whether one matrix makes queries, keys and values."""
        return len(self.attention) == 2

    def place(self, matrix: str) -> str:
        """The path of a matrix in its layer."""
        return matrix if "." in matrix else f"{self.parts[matrix not in self.attention]}.{matrix}"


_GPT2 = Family(
    attention=("attn.c_attn", "attn.c_proj"),
    mlp_names=("mlp.c_fc", "mlp.c_proj"),
    mlp="gelu_new",
    layer_norm=True,
    biases="all",
    positions=1024,
    drops=True,
    tied=True,
    layers="transformer.h",
    embedding="transformer.wte",
)
_FUSED_GATE = ("gate_up_proj", "down_proj")
_NEOX_NAMES = ("query_key_value", "attention.dense"), ("dense_h_to_4h", "dense_4h_to_h")
_BLOOM_NAMES = ("query_key_value", "self_attention.dense"), _NEOX_NAMES[1]

FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "granite": Family(),
    "qwen2": Family(biases="qkv"),
    "qwen3": Family(qk_norm=True, head_dim=128),
    "smollm3": Family(tied=True),
    "gemma": Family(fp32_norms=True, tied=True, head_dim=256),
    "gemma2": Family(norms=4, fp32_norms=True, tied=True, head_dim=256, sdpa=False),
    "gemma3_text": Family(norms=4, fp32_norms=True, qk_norm=True, tied=True, head_dim=256),
    "phi": Family(
        attention=("q_proj", "k_proj", "v_proj", "dense"),
        mlp_names=("fc1", "fc2"),
        mlp="gelu_new",
        norms=1,
        layer_norm=True,
        biases="all",
        head_bias=True,
        parallel=True,
    ),
    "phi3": Family(attention=("qkv_proj", "o_proj"), mlp_names=_FUSED_GATE, keeps_fused=True),
    "glm": Family(mlp_names=_FUSED_GATE, head_dim=128, attention_bias=True, output_bias=False),
    "glm4": Family(mlp_names=_FUSED_GATE, norms=4, head_dim=128, attention_bias=True, output_bias=False),
    "chatglm": Family(
        attention=("query_key_value", "self_attention.dense"),
        mlp_names=_NEOX_NAMES[1],
        biases="qkv",
        keeps_fused=True,
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": Family(
        attention=_GPT2.attention,
        mlp_names=_GPT2.mlp_names,
        mlp="gelu",
        layer_norm=True,
        biases="all",
        positions=1024,
        drops=True,
        tied=True,
        layers="transformer.h",
        embedding="transformer.wte",
    ),
    "gpt_neox": Family(
        attention=_NEOX_NAMES[0],
        mlp_names=_NEOX_NAMES[1],
        mlp="gelu",
        layer_norm=True,
        biases="all",
        keeps_fused=True,
        parallel=True,
        layers="gpt_neox.layers",
        embedding="gpt_neox.embed_in",
        head="embed_out",
        parts=("attention", "mlp"),
    ),
    "falcon": Family(
        attention=_BLOOM_NAMES[0],
        mlp_names=_BLOOM_NAMES[1],
        mlp="gelu",
        norms=1,
        layer_norm=True,
        keeps_fused=True,
        parallel=True,
        tied=True,
        layers="transformer.h",
        embedding="transformer.word_embeddings",
        parts=("self_attention", "mlp"),
    ),
    "bloom": Family(
        attention=_BLOOM_NAMES[0],
        mlp_names=_BLOOM_NAMES[1],
        mlp="gelu",
        layer_norm=True,
        biases="all",
        embedding_norm=True,
        tied=True,
        sdpa=False,
        flash=False,
        layers="transformer.h",
        embedding="transformer.word_embeddings",
        parts=("self_attention", "mlp"),
    ),
    "stablelm": Family(layer_norm=True),
    "qwen": Family(
        attention=("c_attn", "attn.c_proj"), mlp_names=("w1", "w2", "mlp.c_proj"), biases="qkv", keeps_fused=True
    ),
    "baichuan": Family(attention=("W_pack", "o_proj"), keeps_fused=True),
    "mixtral": Family(sparse=Sparse(width="intermediate_size", adapted=True)),
    "qwen2_moe": Family(biases="qkv", sparse=Sparse(shared_width="shared_expert_intermediate_size")),
    "qwen3_moe": Family(qk_norm=True, sparse=Sparse(adapted=True)),
}
ALIASES = {"gemma3": "gemma3_text"}
