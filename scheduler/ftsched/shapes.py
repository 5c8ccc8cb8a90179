"""The shape of a model, read from its config.json alone: its matrices, its widths, and how many parameters it has.

An omitted field takes the default of the model's class. A model type that is not in the table is taken for the most
common shape, a gated decoder with RMS norms, and marked as not known. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from ftsched.families import ALIASES, FAMILIES, Family, Sparse

Config = Mapping[str, Any]


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
    bias: bool = False

    @property
    def size(self) -> int:
        """Its number of weights."""
        return self.inputs * self.outputs


# The number of experts has had several names, for one model type too.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
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
    # Biases of all layers, of their norms too, and of what lies beyond them.
    biases: int = 0
    # All parameters as counted by somebody who has the model's code; 0 if nobody did.
    counted: int = 0

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
        """All parameters; exact for the known families, and where they were counted."""
        if self.counted:
            return self.counted
        sparse_layers = self.layers - self.dense_layers
        inside = self.linear_weights + sparse_layers * self._expert_weights + self.layers * self.other_per_layer
        return inside + self.beyond + (1 if self.tied else 2) * self.embedding

    @property
    def _expert_weights(self) -> int:
        """Experts of one layer with their router."""
        if self.experts is None:
            return 0
        return self.experts.weights(self.hidden) + self.hidden * self.experts.count


def shape_of(config: Config, counted: int = 0) -> Shape:
    """The shape a config.json describes; `counted` are its parameters, if somebody has counted them.

    Raises NotAModel if the config lacks what every decoder has.
    """
    config = config.get("text_config") or config
    model_type = str(config.get("model_type", "?"))
    name = ALIASES.get(model_type, model_type)
    family = _stated(FAMILIES.get(name) or _guess(config), name, config)
    hidden, layers = _number(config, "hidden_size", "n_embd", "n_embed"), _number(config, *_LAYERS)
    heads = _number(config, "num_attention_heads", "n_head")
    dim = _number(config, "head_dim", "kv_channels", default=family.head_dim or hidden // heads)
    query, group = heads * dim, _groups(config, name, heads) * dim
    intermediate = _number(config, "intermediate_size", "n_inner", "ffn_hidden_size", default=4 * hidden)
    if name == "qwen":
        # The first generation's field is the width of gate and up together.
        intermediate //= 2
    experts = _experts(config, family.sparse)
    matrices = _matrices(family, hidden, intermediate, query, group, experts)
    matrices = tuple(replace(each, bias=_has_bias(config, family, each)) for each in matrices)
    return Shape(
        model_type=model_type,
        known=name in FAMILIES,
        family=family,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        query=query,
        group=group,
        vocabulary=_number(config, "padded_vocab_size", "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        window=_window(config),
        matrices=matrices,
        experts=experts,
        dense_layers=_dense_layers(config, layers) if experts else 0,
        other_per_layer=_norms_and_biases(config, family, matrices, dim),
        beyond=_beyond(config, family, hidden),
        biases=_biases(config, family, matrices, layers),
        counted=counted,
    )


def _guess(config: Config) -> Family:
    """A model type that is not in the table: the common decoder, with experts if it has any."""
    sparse = any(config.get(name) for name in _EXPERT_COUNTS)
    return Family(sparse=Sparse() if sparse else None)


def _stated(family: Family, name: str, config: Config) -> Family:
    """The family, with what the configs of some classes change about it."""
    if name == "gpt_neox" and not config.get("use_parallel_residual", True):
        return replace(family, parallel=False)
    if name == "stablelm":
        family = replace(family, biases="qkv") if config.get("use_qkv_bias") else family
        return replace(family, norms=1, parallel=True) if config.get("use_parallel_residual") else family
    if name != "falcon":
        return family
    if config.get("bias"):
        family = replace(family, biases="all")
    if not config.get("parallel_attn", True):
        return replace(family, norms=2, parallel=False)
    if config.get("new_decoder_architecture"):
        return replace(family, norms=_number(config, "num_ln_in_parallel_attn", default=2))
    return family


def _groups(config: Config, name: str, heads: int) -> int:
    """Heads of keys, and of values."""
    stated = config.get("num_key_value_heads")
    one_for_all = name in ("falcon", "gpt_bigcode") and config.get("multi_query", True)
    if stated is None and one_for_all and not config.get("new_decoder_architecture"):
        return 1
    return _number(config, "num_key_value_heads", "num_kv_heads", "multi_query_group_num", default=heads)


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
    made = (query + 2 * group,) if family.fused else (query, group, group)
    attention = tuple(
        Matrix(name, hidden, width, Reads.ATTENTION_INPUT)
        for name, width in zip(family.attention[:-1], made, strict=True)
    )
    attention = (*attention, Matrix(family.attention[-1], query, hidden, Reads.ATTENTION_OUTPUT))
    if experts is None:
        return (*attention, *_mlp(family, hidden, intermediate))
    if not experts.shared_width:
        return attention
    gate = Matrix("shared_expert_gate", hidden, 1, Reads.MLP_INPUT)
    return (*attention, gate, *_mlp(family, hidden, experts.shared_width))


def _mlp(family: Family, hidden: int, inner: int) -> tuple[Matrix, ...]:
    first, last = family.mlp_names[:-1], family.mlp_names[-1]
    width = 2 * inner if family.mlp == "gated" and len(first) == 1 else inner
    return (
        *(Matrix(name, hidden, width, Reads.MLP_INPUT) for name in first),
        Matrix(last, inner, hidden, Reads.MLP_INNER),
    )


def _norms_and_biases(config: Config, family: Family, matrices: tuple[Matrix, ...], dim: int) -> int:
    hidden = matrices[0].inputs
    count = family.norms * hidden * (2 if family.layer_norm else 1) + (2 * dim if family.qk_norm else 0)
    return count + sum(matrix.outputs for matrix in matrices if matrix.bias)


def _has_bias(config: Config, family: Family, matrix: Matrix) -> bool:
    if family.biases == "all":
        return True
    attention_bias = config.get("attention_bias", family.attention_bias)
    match matrix.reads:
        case Reads.ATTENTION_INPUT:
            return bool(family.biases == "qkv" or attention_bias)
        case Reads.ATTENTION_OUTPUT:
            return bool(attention_bias and family.output_bias)
        case Reads.MLP_INPUT | Reads.MLP_INNER:
            return bool(config.get("mlp_bias"))


def _biases(config: Config, family: Family, matrices: tuple[Matrix, ...], layers: int) -> int:
    """All biases: of the matrices, of LayerNorms and of the head."""
    norms = matrices[0].inputs if family.layer_norm else 0
    head = _number(config, "vocab_size") if family.head_bias else 0
    beyond = norms * (2 if family.embedding_norm else 1) + head
    return layers * (sum(each.outputs for each in matrices if each.bias) + family.norms * norms) + beyond


def _beyond(config: Config, family: Family, hidden: int) -> int:
    """The last norm and the embedding's, learned positions, and a bias of the head."""
    norms = (2 if family.layer_norm else 1) * hidden * (2 if family.embedding_norm else 1)
    positions = _number(config, "n_positions", default=family.positions) if family.positions else 0
    return norms + positions * hidden + (_number(config, "vocab_size") if family.head_bias else 0)
