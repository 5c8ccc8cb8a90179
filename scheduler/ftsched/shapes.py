"""The shape of a model, read from its config.json alone: its matrices, its widths, and how many parameters it has.

An omitted field takes the default of the model's class. A model type that is not in the table is taken for the most
common shape, a gated decoder with RMS norms, and marked as not known. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Mlp = Literal["gated", "gelu", "gelu_new"]


class NotAModel(Exception):
    """The config lacks what every decoder has; the message names the field."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer of one decoder layer, by the name transformers gives it."""

    name: str
    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        """Its number of weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Family:
    """What a model type does that its config does not say."""

    norms: int = 2
    layer_norm: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    fused: bool = False
    mlp: Mlp = "gated"
    tied: bool = False
    head_dim: int | None = None
    # Sparse ones: the fields that give the number of experts, how many a token visits, and their width.
    experts: tuple[str, str, str] | None = None


_FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qk_norm=True, head_dim=128),
    "smollm3": Family(tied=True),
    "gemma": Family(tied=True, head_dim=256),
    "gemma2": Family(norms=4, tied=True, head_dim=256),
    "gemma3_text": Family(norms=4, qk_norm=True, tied=True, head_dim=256),
    "phi3": Family(fused=True),
    "gpt2": Family(layer_norm=True, fused=True, mlp="gelu_new", tied=True),
    "gpt_neox": Family(layer_norm=True, fused=True, mlp="gelu"),
    "mixtral": Family(experts=("num_local_experts", "num_experts_per_tok", "intermediate_size")),
    "qwen3_moe": Family(qk_norm=True, experts=("num_experts", "num_experts_per_tok", "moe_intermediate_size")),
}
_ALIASES = {"gemma3": "gemma3_text"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder. Widths are numbers of elements; `query` and `group` are those of the queries and of keys or values."""

    model_type: str
    known: bool
    family: Family
    hidden: int
    intermediate: int
    layers: int
    heads: int
    query: int
    group: int
    vocabulary: int
    tied: bool
    matrices: tuple[Matrix, ...]
    # Experts are two fused tensors, not linear modules: weights of one layer, and those a token visits.
    expert_weights: int
    active_experts: int
    expert_width: int
    # Norms and biases of a layer, and what lies beyond the layers but embedding and head.
    other_per_layer: int
    beyond: int

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's linear modules."""
        return sum(matrix.size for matrix in self.matrices)

    @property
    def per_layer(self) -> int:
        """All parameters of one layer."""
        return self.layer_weights + self.expert_weights + self.other_per_layer

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; of the head too, unless they are one."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; exact for the known families."""
        heads = 1 if self.tied else 2
        return self.layers * self.per_layer + self.beyond + heads * self.embedding


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape a config.json describes. Raises NotAModel if it lacks what every decoder has."""
    config = config.get("text_config") or config
    model_type = str(config.get("model_type", "?"))
    name = _ALIASES.get(model_type, model_type)
    family = _FAMILIES.get(name, Family())
    hidden = _number(config, "hidden_size", "n_embd")
    heads = _number(config, "num_attention_heads", "n_head")
    dim = config.get("head_dim") or family.head_dim or hidden // heads
    query, group = heads * dim, (config.get("num_key_value_heads") or heads) * dim
    intermediate = _number(config, "intermediate_size", "n_inner", default=4 * hidden)
    experts, active, width = _experts(config, family)
    if experts:
        intermediate = width
    matrices = _matrices(family, hidden, intermediate, query, group, sparse=bool(experts))
    return Shape(
        model_type=model_type,
        known=name in _FAMILIES,
        family=family,
        hidden=hidden,
        intermediate=intermediate,
        layers=_number(config, "num_hidden_layers", "n_layer"),
        heads=heads,
        query=query,
        group=group,
        vocabulary=_number(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        matrices=matrices,
        expert_weights=3 * hidden * width * experts,
        active_experts=active,
        expert_width=width,
        other_per_layer=_norms_and_biases(config, family, hidden, matrices, query, group, dim) + hidden * experts,
        beyond=(2 * hidden if family.layer_norm else hidden) + config.get("n_positions", 0) * hidden,
    )


def _number(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    if default is None:
        raise NotAModel(f"config.json has no {' or '.join(names)}")
    return default


def _experts(config: Mapping[str, Any], family: Family) -> tuple[int, int, int]:
    """Number of experts, how many a token visits, their width; zeros for a dense model."""
    names = family.experts or ("num_local_experts", "num_experts_per_tok", "intermediate_size")
    if family.experts is None and not config.get(names[0]):
        return 0, 0, 0
    return _number(config, names[0]), _number(config, names[1], default=2), _number(config, names[2])


def _matrices(
    family: Family, hidden: int, intermediate: int, query: int, group: int, *, sparse: bool
) -> tuple[Matrix, ...]:
    if family.layer_norm:
        names = ("c_attn", "c_proj", "c_fc", "mlp.c_proj")
        if family.mlp == "gelu":
            names = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
        widths = ((hidden, 3 * hidden), (hidden, hidden), (hidden, intermediate), (intermediate, hidden))
        return tuple(Matrix(name, *width) for name, width in zip(names, widths, strict=True))
    if family.fused:
        return (
            Matrix("qkv_proj", hidden, query + 2 * group),
            Matrix("o_proj", query, hidden),
            Matrix("gate_up_proj", hidden, 2 * intermediate),
            Matrix("down_proj", intermediate, hidden),
        )
    attention = (
        Matrix("q_proj", hidden, query),
        Matrix("k_proj", hidden, group),
        Matrix("v_proj", hidden, group),
        Matrix("o_proj", query, hidden),
    )
    if sparse:
        return attention
    return (
        *attention,
        Matrix("gate_proj", hidden, intermediate),
        Matrix("up_proj", hidden, intermediate),
        Matrix("down_proj", intermediate, hidden),
    )


def _norms_and_biases(
    config: Mapping[str, Any],
    family: Family,
    hidden: int,
    matrices: tuple[Matrix, ...],
    query: int,
    group: int,
    dim: int,
) -> int:
    if family.layer_norm:
        return 4 * hidden + sum(matrix.outputs for matrix in matrices)
    count = family.norms * hidden + (2 * dim if family.qk_norm else 0)
    if family.qkv_bias or config.get("attention_bias"):
        count += query + 2 * group
    return count
