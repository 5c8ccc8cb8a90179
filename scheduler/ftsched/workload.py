"""What a training does, as far as memory is concerned, and which parameters of a model it trains. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftsched.shapes import Matrix, Reads, Shape

Stage = Literal["sft", "pretrain", "dpo"]
Method = Literal["lora", "qlora", "full", "freeze"]
AttentionKernel = Literal["flash", "masked", "eager"]


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
    eval_micro_batch: int = 0
    adapter_bytes: int = 4
    rank: int = 0
    targets: tuple[str, ...] = ()
    dropout: bool = False
    dora: bool = False
    saved_modules: int = 0
    double_quant: bool = True
    trained_layers: int = 0
    # Bytes per logit of a loss that has all of them at once, and of what its caller keeps of them through the backward
    # pass. TRL's loss, which our trainers use, never has them; other trainers are there to be compared with.
    logit_bytes: float = 0
    held_logit_bytes: float = 0

    @property
    def compute_bytes(self) -> int:
        """Bytes of a number in the arithmetic."""
        return 2 if self.autocast else self.weight_bytes

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained beside frozen weights."""
        return self.method in ("lora", "qlora")

    @property
    def trains_norms(self) -> bool:
        """Whether the layers' norms are trained too."""
        return not self.adapts

    @property
    def rows(self) -> int:
        """Sequences in a forward pass; a pair has two."""
        return self.micro_batch * (2 if self.stage == "dpo" else 1)

    @property
    def tokens(self) -> int:
        """Tokens in a forward pass."""
        return self.rows * self.sequence

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained parameter."""
        return self.adapter_bytes if self.adapts else self.weight_bytes

    def kernel(self, shape: Shape) -> AttentionKernel:
        """Which attention runs: a mask takes the fast path from SDPA, and capped scores take SDPA away."""
        if self.attention == "eager" or (self.attention == "sdpa" and not shape.family.sdpa):
            return "eager"
        # Rows of different lengths are padded; packed rows must not see each other; a window hides what is far.
        masked = self.rows > 1 or self.packed or 0 < shape.window <= self.sequence
        return "masked" if self.attention == "sdpa" and masked else "flash"


def trained_parameters(work: Workload, shape: Shape) -> int:
    """Number of parameters that are trained."""
    if work.method == "full":
        return shape.parameters
    if work.method == "freeze":
        return work.trained_layers * shape.per_layer
    return shape.layers * adapter_parameters(work, shape) + work.saved_modules * shape.embedding


def adapter_parameters(work: Workload, shape: Shape) -> int:
    """Parameters of the adapters of one layer; 0 without adapters."""
    r, hidden = work.rank, shape.hidden
    count = sum(r * (each.inputs + each.outputs) + (each.outputs if work.dora else 0) for each in targeted(work, shape))
    if adapts_experts(work, shape) and shape.experts is not None:
        width, experts = shape.experts.width, shape.experts.count
        count += experts * (2 * r * (hidden + 2 * width) + r * (width + hidden)) + r * (hidden + experts)
    return count


def targeted(work: Workload, shape: Shape) -> tuple[Matrix, ...]:
    """The matrices that have an adapter."""
    if not work.adapts:
        return ()
    if "all-linear" in work.targets:
        return shape.matrices
    return tuple(each for each in shape.matrices if any(each.called(target) for target in work.targets))


def adapts_experts(work: Workload, shape: Shape) -> bool:
    """Whether the fused experts have adapters."""
    return work.adapts and "all-linear" in work.targets and shape.experts is not None and shape.experts.adapted


def adapts_attention_only(work: Workload, shape: Shape) -> bool:
    """Whether all adapters sit on the attention."""
    attention = (Reads.ATTENTION_INPUT, Reads.ATTENTION_OUTPUT)
    return all(each.reads in attention for each in targeted(work, shape)) and not adapts_experts(work, shape)
