"""What a training does, as far as memory is concerned, and which parameters of a model it trains. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ftsched.shapes import Matrix, Shape

Stage = Literal["sft", "pretrain", "dpo"]
Method = Literal["lora", "qlora", "full", "freeze"]


@dataclass(frozen=True, slots=True)
class Workload:
    """What a training does, as far as memory is concerned. Sizes in bytes, lengths in tokens."""

    stage: Stage
    method: Method
    device: Literal["gpu", "cpu"]
    gpus: int
    # Bytes of a weight as loaded (of what is not quantised, for qlora), and of a number in the arithmetic.
    weight_bytes: int
    compute_bytes: int
    # Sequences, for dpo pairs, in a forward pass; and the longest sequence.
    micro_batch: int
    sequence: int
    accumulates: bool
    recompute: bool
    optimizer: str
    attention: str
    eval_micro_batch: int = 0
    rank: int = 0
    targets: tuple[str, ...] = ()
    dropout: bool = False
    dora: bool = False
    saved_modules: int = 0
    double_quant: bool = True
    trained_layers: int = 0

    @property
    def autocast(self) -> bool:
        """Whether the arithmetic is done in 16 bits whatever the weights are."""
        return self.compute_bytes == 2

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained beside frozen weights."""
        return self.method in ("lora", "qlora")

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
        """Bytes of a trained parameter. PEFT keeps adapters in fp32; TRL makes those on 4-bit weights 16 bit."""
        if self.method == "lora":
            return 4
        return self.compute_bytes if self.method == "qlora" else self.weight_bytes


def trained_parameters(work: Workload, shape: Shape) -> int:
    """Number of parameters that are trained."""
    if work.method == "full":
        return shape.parameters
    if work.method == "freeze":
        return work.trained_layers * shape.per_layer
    per_layer = sum(
        work.rank * (each.inputs + each.outputs) + (each.outputs if work.dora else 0) for each in targeted(work, shape)
    )
    return shape.layers * per_layer + work.saved_modules * shape.embedding


def targeted(work: Workload, shape: Shape) -> tuple[Matrix, ...]:
    """The matrices that have an adapter."""
    if "all-linear" in work.targets:
        return shape.matrices
    return tuple(each for each in shape.matrices if each.name.endswith(work.targets))
