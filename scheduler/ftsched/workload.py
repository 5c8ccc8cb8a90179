"""What a training does, as far as memory is concerned. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ftsched.shapes import Shape

Stage = Literal[
    "sft",
    "pretrain",
    "reward",
    "dpo",
    "kto",
    "orpo",
    "cpo",
    "simpo",
    "grpo",
    "rloo",
    "ppo",
    "distill",
    # They use a model, and train nothing.
    "evaluate",
    "export",
    "chat",
]
Method = Literal[
    "lora",
    "qlora",
    "full",
    "freeze",
    "adalora",
    "vera",
    "oft",
    "boft",
    "ia3",
    "prefix_tuning",
    "prompt_tuning",
    "p_tuning",
    # Nothing is trained.
    "none",
]
# How several GPUs share the model. With parameters sharded each GPU gathers a layer when it needs it.
Sharding = Literal["ddp", "zero1", "zero2", "zero3", "fsdp", "fsdp2"]
# The head and the loss: TRL's in tiles, all logits at once, liger's fused one, torchtune's in eight chunks.
Loss = Literal["tiled", "logits", "liger", "chunked"]
Quantization = Literal["nf4", "fp4", "int8", "gptq4", "gptq8"]
# Stages that compare two answers to a prompt: both are in the batch.
PAIRED = frozenset({"reward", "dpo", "orpo", "cpo", "simpo"})
# Stages that need the model as it was before, unless it is the same with its adapters off.
REFERENCED = frozenset({"dpo", "kto", "grpo", "rloo", "ppo"})
# Stages that write their own answers.
GENERATING = frozenset({"grpo", "rloo", "ppo", "distill"})
# Stages that use a model, and train nothing: their method is "qlora" if its weights are quantised, else "none".
USES = frozenset({"evaluate", "export", "chat"})
AttentionKernel = Literal["flash", "masked", "eager"]


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a method says beyond rank and targets: which modules of which layers, and the sizes of its parts."""

    # A pattern of whole paths in place of the targets; names that are no target; numbers of layers, empty for all.
    pattern: str = ""
    excluded: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    # Ranks that differ, by the end of the path.
    ranks: tuple[tuple[str, int], ...] = ()
    bias: str = "none"
    # Of rotations: the width of a block, whether all blocks are one, the number of factors.
    block: int = 0
    shared: bool = False
    factors: int = 1
    # Targets whose inputs are scaled, not their outputs.
    scales_inputs: tuple[str, ...] = ()
    # Virtual tokens, and the network that makes them.
    virtual_tokens: int = 0
    encoder: str = ""
    encoder_width: int = 0
    # Of frozen models: modules of the trained layers, all if empty; modules beyond; whether the first are trained.
    modules: tuple[str, ...] = ()
    extra_modules: tuple[str, ...] = ()
    first_layers: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """What a training does, as far as memory is concerned. Sizes in bytes, lengths in tokens."""

    stage: Stage
    method: Method
    device: Literal["gpu", "cpu"]
    gpus: int
    # Bytes of a weight as loaded; for qlora of what is not quantised. It is the format of the residual stream too.
    weight_bytes: int
    # Whether the arithmetic is done in 16 bits whatever the weights are.
    autocast: bool
    # Sequences, for dpo pairs, in a forward pass; and the longest sequence.
    micro_batch: int
    sequence: int
    accumulates: bool
    recompute: bool
    optimizer: str
    attention: str
    # The rows of a micro-batch are laid end to end, without padding.
    packed: bool = False
    # Attention runs row by row, and needs no mask to tell them apart.
    padding_free: bool = False
    eval_micro_batch: int = 0
    adapter_bytes: int = 4
    rank: int = 0
    targets: tuple[str, ...] = ()
    dropout: bool = False
    dora: bool = False
    # Copies of the embedding or the head that are trained beside adapters.
    saved_modules: int = 0
    # What the base weights of qlora are kept in; double quantisation is of nf4's and fp4's scales.
    quantization: Quantization = "nf4"
    double_quant: bool = True
    trained_layers: int = 0
    adapter: Adapter = field(default_factory=Adapter)
    # Rank at which GaLore and APOLLO keep the states of a matrix.
    projection_rank: int = 128
    sharding: Sharding = "ddp"
    # Parameters, gradients and optimizer states lie in the host's memory; or what the forward pass keeps does.
    offloaded: bool = False
    offloads_activations: bool = False
    # Each gradient is used and freed as soon as it is there.
    steps_in_backward: bool = False
    loss: Loss = "tiled"
    # Bytes per logit of a loss that has all of them at once, where they are known to differ from what accelerate makes
    # of them; and of what its caller keeps of them through the backward pass.
    logit_bytes: float = 0
    held_logit_bytes: float = 0
    # Before the flash kernel, keys and values are repeated for all heads.
    expands_heads: bool = False
    # One kernel for a norm, which then keeps what it reads and nothing else; one for the adapters of q, k and v.
    fused_norms: bool = False
    fused_adapters: bool = False
    # A quantised layer keeps what it reads, as bitsandbytes' did before it knew that weights may be frozen.
    keeps_quantised_inputs: bool = False
    # Whether a reference model is needed: not with its log-probabilities computed beforehand.
    reference: bool = True
    # Answers that are written at once, and the longest one; of the stages that write their own.
    generated_rows: int = 0
    completion: int = 0
    # Tokens that evaluations write after a row's prompt; 0: none.
    answer_tokens: int = 0
    # A whole model is made of the weights at the end, in the host's memory: bytes of a weight there; 0: none is.
    exported_weight_bytes: int = 0
    # A value head beside the language model's.
    value_head: bool = False
    # The adapter was trained before: the model as it was is the one with a copy of it.
    reference_adapter: bool = False
    # Models that are loaded beside this one, as a reward model is.
    other_models_bytes: int = 0

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the arithmetic."""
        return 2 if self.autocast else self.weight_bytes

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass at all."""
        return self.stage not in USES

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained beside frozen weights."""
        return self.method not in ("full", "freeze")

    @property
    def trains_norms(self) -> bool:
        """Whether the layers' norms are trained too."""
        return not self.adapts

    @property
    def trains_head(self) -> bool:
        """Whether the vocabulary's head is trained."""
        return self.method == "full" and self.has_vocabulary_head

    @property
    def has_vocabulary_head(self) -> bool:
        """A reward model has a head of one number instead."""
        return self.stage != "reward"

    @property
    def gathers(self) -> bool:
        """Whether the parameters themselves are sharded."""
        return self.gpus > 1 and self.sharding in ("zero3", "fsdp", "fsdp2")

    @property
    def mixed_shards(self) -> bool:
        """Whether FSDP's own mixed precision is at work: trained shards in fp32, arithmetic in 16 bits."""
        return self.gathers and self.autocast and self.sharding in ("fsdp", "fsdp2")

    @property
    def stream_bytes(self) -> int:
        """Bytes of a number of the residual stream: it has the format of the weights."""
        return self.weight_bytes

    @property
    def rows(self) -> int:
        """Sequences in a forward pass; a pair has two."""
        return self.micro_batch * (2 if self.stage in PAIRED else 1)

    @property
    def tokens(self) -> int:
        """Tokens in a forward pass."""
        return self.rows * self.sequence

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained parameter."""
        if self.adapts:
            return self.adapter_bytes
        return 4 if self.mixed_shards else self.weight_bytes

    def unit_bytes(self, shape: Shape) -> float:
        """Bytes of a weight of a linear layer as it is loaded: quantised, with its scales, or not."""
        if self.method != "qlora":
            return self.compute_bytes if self.gathers else self.weight_bytes
        match self.quantization:
            case "int8":
                return 1.004
            case "gptq4":
                return 0.5 + 2.5 / 128 + 4 / shape.hidden
            case "gptq8":
                return 1 + 3 / 128 + 4 / shape.hidden
        return 0.5 + 1 / 64 + 4 / 16384 if self.double_quant else 0.5625

    def kernel(self, shape: Shape) -> AttentionKernel:
        """Which attention runs: a mask takes the fast path from SDPA, and capped scores take SDPA away."""
        family = shape.family
        if self.attention == "eager" or not family.flash or (self.attention == "sdpa" and not family.sdpa):
            return "eager"
        # Rows of different lengths are padded; packed rows must not see each other; a window hides what is far.
        several = (self.rows > 1 or self.packed) and not self.padding_free
        masked = several or 0 < shape.window <= self.sequence
        return "masked" if self.attention == "sdpa" and masked else "flash"
