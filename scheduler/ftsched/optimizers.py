"""What each optimizer keeps per trained parameter, and needs while it steps: a table by transformers' names. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ftsched.shapes import Shape
from ftsched.workload import Workload


class UnknownOptimizer(ValueError):
    """An optimizer that is not in the table; the message lists those that are."""


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes per trained parameter: `times` its own bytes, plus `bytes`; kept as state, and taken while it steps."""

    times: float = 0
    bytes: float = 0
    scratch_times: float = 0
    scratch_bytes: float = 0
    # Matrices have their states projected to a low rank.
    low_rank: bool = False


_ADAM = Use(times=2)
# The loop over lists of tensors makes one more copy of the parameters.
_FOREACH = Use(times=2, scratch_times=1)
# Tensors under 4096 elements keep 32-bit states: 2.03 bytes on the whole.
_ADAM_8BIT = Use(bytes=2.03)
_ADAM_32BIT = Use(bytes=8)
_LION = Use(times=1, scratch_times=1)
_LION_8BIT = Use(bytes=1.02)

# Paged states count as resident: they move only when memory is short.
_TABLE = {
    "adamw_torch_fused": _ADAM,
    "adamw_apex_fused": _ADAM,
    "adamw_torch": _FOREACH,
    "adamw_8bit": _ADAM_8BIT,
    "adamw_bnb_8bit": _ADAM_8BIT,
    "paged_adamw_8bit": _ADAM_8BIT,
    "paged_adamw": _ADAM_32BIT,
    "paged_adamw_32bit": _ADAM_32BIT,
    "adamw_torch_8bit": Use(bytes=2.03, scratch_bytes=4),
    "adamw_torch_4bit": Use(bytes=1.06, scratch_bytes=4),
    "lion": _LION,
    "lion_32bit": Use(bytes=4),
    "paged_lion_32bit": Use(bytes=4),
    "lion_8bit": _LION_8BIT,
    "paged_lion_8bit": _LION_8BIT,
    "sgd": Use(),
    "sgd_momentum": Use(times=1),
    "rmsprop": Use(times=1),
    "rmsprop_momentum": Use(times=2),
    "rmsprop_bnb": Use(bytes=4),
    "rmsprop_bnb_32bit": Use(bytes=4),
    "rmsprop_bnb_8bit": Use(bytes=1.02),
    # Two fast averages and a slow one.
    "ademamix": Use(bytes=12),
    "paged_ademamix_32bit": Use(bytes=12),
    "ademamix_8bit": Use(bytes=3.05),
    "paged_ademamix_8bit": Use(bytes=3.05),
    "stable_adamw": Use(times=2, scratch_times=1),
    "adagrad": Use(times=1),
    "adafactor": Use(bytes=0.01, scratch_bytes=4),
    "galore_adamw": Use(times=2, low_rank=True),
    "galore_adamw_8bit": Use(bytes=2.03, low_rank=True),
    "galore_adafactor": Use(bytes=0.01, scratch_bytes=4, low_rank=True),
    "apollo_adamw": Use(times=2, low_rank=True),
}
OPTIMIZERS = frozenset(_TABLE)
# What the formulas derive and nobody has measured.
DERIVED = frozenset(name for name, use in _TABLE.items() if use.low_rank or use.scratch_bytes)


def optimizer_bytes(work: Workload, shape: Shape, trained: int) -> tuple[float, float]:
    """States, and scratch while stepping, of `trained` parameters. Raises UnknownOptimizer."""
    use = _TABLE.get(work.optimizer)
    if use is None:
        accepted = ", ".join(sorted(OPTIMIZERS))
        raise UnknownOptimizer(f"optimizer is {work.optimizer!r}; accepted are {accepted}")
    b = work.trained_bytes
    states = trained * (use.times * b + use.bytes)
    if use.low_rank and work.method == "full":
        states = _low_rank(work, shape, trained, use)
    return states, trained * (use.scratch_times * b + use.scratch_bytes)


def _low_rank(work: Workload, shape: Shape, trained: int, use: Use) -> float:
    """Matrices have their moments at a low rank, with the projection; embeddings, head and norms have them whole."""
    per_parameter = use.times * work.trained_bytes + use.bytes
    sides = shape.layers * sum(each.inputs + each.outputs for each in shape.matrices)
    rest = max(0, trained - shape.linear_weights)
    return work.projection_rank * sides * per_parameter + rest * per_parameter
