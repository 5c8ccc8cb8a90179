"""The shape of a model, read from its config.json alone: its matrices, its widths, and how many parameters it has.

An omitted field takes the default of the model's class. A model type that is not in the table is taken for the most
common shape, a gated decoder with RMS norms, and marked as not known. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

Config = Mapping[str, Any]
Mlp = Literal["gated", "gelu", "gelu_new"]


class NotAModel(Exception):
    """The config lacks what every decoder has; the message names the field."""


class Reads(Enum):
    """Which tensor a linear layer reads; layers that read the same one share what is kept of it."""

    ATTENTION_INPUT = auto()
    ATTENTION_OUTPUT = auto()
    MLP_INPUT = auto()
    MLP_INNER = auto()


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer of one decoder layer, by the name transformers gives it."""

    name: str
    inputs: int
    outputs: int
    reads: Reads

    @property
    def size(self) -> int:
        """Its number of weights."""
        return self.inputs * self.outputs

    def called(self, target: str) -> bool:
        """Whether PEFT takes `target` for this layer: the name, or the end of it after a dot, or a longer path."""
        return f".{self.name}".endswith(f".{target}") or target.endswith(f".{self.name}")


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

    norms: int = 2
    layer_norm: bool = False
    # Gemma's norms keep their result in fp32.
    fp32_norms: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    # One matrix makes queries, keys and values; a split of its result keeps all of it alive.
    fused: bool = False
    keeps_fused: bool = False
    # Attention and MLP read the same tensor.
    parallel: bool = False
    mlp: Mlp = "gated"
    tied: bool = False
    head_dim: int | None = None
    # Scores are capped, which PyTorch's kernel cannot do.
    sdpa: bool = True
    sparse: Sparse | None = None


_FAMILIES = {
    "llama": Family(),
    "mistral": Family(),
    "qwen2": Family(qkv_bias=True),
    "qwen3": Family(qk_norm=True, head_dim=128),
    "smollm3": Family(tied=True),
    "gemma": Family(fp32_norms=True, tied=True, head_dim=256),
    "gemma2": Family(norms=4, fp32_norms=True, tied=True, head_dim=256, sdpa=False),
    "gemma3_text": Family(norms=4, fp32_norms=True, qk_norm=True, tied=True, head_dim=256),
    "phi3": Family(fused=True, keeps_fused=True),
    "gpt2": Family(layer_norm=True, fused=True, mlp="gelu_new", tied=True),
    "gpt_neox": Family(layer_norm=True, fused=True, keeps_fused=True, parallel=True, mlp="gelu"),
    "mixtral": Family(sparse=Sparse(width="intermediate_size", adapted=True)),
    "qwen2_moe": Family(
        qkv_bias=True,
        sparse=Sparse(shared_width="shared_expert_intermediate_size"),
    ),
    "qwen3_moe": Family(
        qk_norm=True,
        sparse=Sparse(adapted=True),
    ),
}
_ALIASES = {"gemma3": "gemma3_text"}
# The number of experts has had several names, for one model type too.
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of one sparse layer: two fused tensors, not linear modules. Widths in elements."""

    count: int
    active: int
    width: int
    shared_width: int
    adapted: bool

    def weights(self, hidden: int) -> int:
        """Weights of all experts of a layer."""
        return 3 * hidden * self.width * self.count


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
    # Positions further apart do not see each other; 0 if all do.
    window: int
    # Of one layer; of a sparse one if there are such.
    matrices: tuple[Matrix, ...]
    experts: Experts | None
    # How many layers of a sparse model have an ordinary MLP instead.
    dense_layers: int
    # Norms and biases of a layer, and what lies beyond the layers but embedding and head.
    other_per_layer: int
    beyond: int

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's linear modules."""
        return sum(matrix.size for matrix in self.matrices)

    @property
    def linear_weights(self) -> int:
        """Weights of all layers' linear modules: what is quantised."""
        shared = sum(m.size for m in self.matrices if m.reads in (Reads.MLP_INPUT, Reads.MLP_INNER))
        return self.layers * self.layer_weights + self.dense_layers * (3 * self.hidden * self.intermediate - shared)

    @property
    def per_layer(self) -> int:
        """All parameters of one layer."""
        return self.layer_weights + self._expert_weights + self.other_per_layer

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; of the head too, unless they are one."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; exact for the known families."""
        sparse_layers = self.layers - self.dense_layers
        inside = self.linear_weights + sparse_layers * self._expert_weights + self.layers * self.other_per_layer
        return inside + self.beyond + (1 if self.tied else 2) * self.embedding

    @property
    def _expert_weights(self) -> int:
        """Experts of one layer with their router."""
        if self.experts is None:
            return 0
        return self.experts.weights(self.hidden) + self.hidden * self.experts.count


def shape_of(config: Config) -> Shape:
    """The shape a config.json describes. Raises NotAModel if it lacks what every decoder has."""
    config = config.get("text_config") or config
    model_type = str(config.get("model_type", "?"))
    name = _ALIASES.get(model_type, model_type)
    family = _FAMILIES.get(name) or _guess(config)
    hidden, layers = _number(config, "hidden_size", "n_embd"), _number(config, "num_hidden_layers", "n_layer")
    heads = _number(config, "num_attention_heads", "n_head")
    dim = _number(config, "head_dim", default=family.head_dim or hidden // heads)
    query, group = heads * dim, _number(config, "num_key_value_heads", default=heads) * dim
    intermediate = _number(config, "intermediate_size", "n_inner", default=4 * hidden)
    experts = _experts(config, family.sparse)
    matrices = _matrices(family, hidden, intermediate, query, group, experts)
    return Shape(
        model_type=model_type,
        known=name in _FAMILIES,
        family=family,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        query=query,
        group=group,
        vocabulary=_number(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        window=_window(config),
        matrices=matrices,
        experts=experts,
        dense_layers=_dense_layers(config, layers) if experts else 0,
        other_per_layer=_norms_and_biases(config, family, matrices, dim),
        beyond=_beyond(config, name, family, hidden),
    )


def _guess(config: Config) -> Family:
    """A model type that is not in the table: the common decoder, with experts if it has any."""
    sparse = any(config.get(name) for name in _EXPERT_COUNTS)
    return Family(sparse=Sparse() if sparse else None)


def _number(config: Config, *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    if default is None:
        raise NotAModel(f"config.json has no {' or '.join(names)}")
    return default


def _experts(config: Config, sparse: Sparse | None) -> Experts | None:
    if sparse is None:
        return None
    return Experts(
        count=_number(config, *_EXPERT_COUNTS),
        active=_number(config, "num_experts_per_tok", default=2),
        width=_number(config, sparse.width, "intermediate_size"),
        shared_width=_number(config, sparse.shared_width) if sparse.shared_width else 0,
        adapted=sparse.adapted,
    )


def _dense_layers(config: Config, layers: int) -> int:
    """Layers of a sparse model that qwen's two fields make ordinary ones."""
    step, dense = _number(config, "decoder_sparse_step", default=1), config.get("mlp_only_layers") or ()
    return sum(1 for layer in range(layers) if layer in dense or (layer + 1) % step != 0)


def _window(config: Config) -> int:
    """Qwen's configs have the field and say beside it that it is not used."""
    used = config.get("use_sliding_window", True)
    return _number(config, "sliding_window", default=0) if used else 0


def _matrices(
    family: Family, hidden: int, intermediate: int, query: int, group: int, experts: Experts | None
) -> tuple[Matrix, ...]:
    if family.layer_norm:
        names = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        if family.mlp == "gelu":
            names = ("query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h")
        widths = ((hidden, 3 * hidden), (hidden, hidden), (hidden, intermediate), (intermediate, hidden))
        return tuple(Matrix(name, *width, reads) for name, width, reads in zip(names, widths, Reads, strict=True))
    if family.fused:
        return (
            Matrix("qkv_proj", hidden, query + 2 * group, Reads.ATTENTION_INPUT),
            Matrix("o_proj", query, hidden, Reads.ATTENTION_OUTPUT),
            Matrix("gate_up_proj", hidden, 2 * intermediate, Reads.MLP_INPUT),
            Matrix("down_proj", intermediate, hidden, Reads.MLP_INNER),
        )
    attention = (
        Matrix("q_proj", hidden, query, Reads.ATTENTION_INPUT),
        Matrix("k_proj", hidden, group, Reads.ATTENTION_INPUT),
        Matrix("v_proj", hidden, group, Reads.ATTENTION_INPUT),
        Matrix("o_proj", query, hidden, Reads.ATTENTION_OUTPUT),
    )
    if experts is None:
        return (*attention, *_gated(hidden, intermediate))
    if not experts.shared_width:
        return attention
    gate = Matrix("shared_expert_gate", hidden, 1, Reads.MLP_INPUT)
    return (*attention, gate, *_gated(hidden, experts.shared_width))


def _gated(hidden: int, inner: int) -> tuple[Matrix, ...]:
    return (
        Matrix("gate_proj", hidden, inner, Reads.MLP_INPUT),
        Matrix("up_proj", hidden, inner, Reads.MLP_INPUT),
        Matrix("down_proj", inner, hidden, Reads.MLP_INNER),
    )


def _norms_and_biases(config: Config, family: Family, matrices: tuple[Matrix, ...], dim: int) -> int:
    hidden = matrices[0].inputs
    if family.layer_norm:
        return 4 * hidden + sum(matrix.outputs for matrix in matrices)
    count = family.norms * hidden + (2 * dim if family.qk_norm else 0)
    if family.qkv_bias or config.get("attention_bias"):
        count += sum(m.outputs for m in matrices if m.reads is Reads.ATTENTION_INPUT)
    if config.get("attention_bias"):
        count += hidden
    if config.get("mlp_bias"):
        count += sum(m.outputs for m in matrices if m.reads in (Reads.MLP_INPUT, Reads.MLP_INNER))
    return count


def _beyond(config: Config, name: str, family: Family, hidden: int) -> int:
    """The last norm, and gpt2's learned positions."""
    positions = _number(config, "n_positions", default=1024) if name == "gpt2" else 0
    return (2 if family.layer_norm else 1) * hidden + positions * hidden
