"""What measured peaks teach about an estimate: a correction that stands among its terms, for everybody to see.

A run teaches in two ways. What was once measured for a shape is the least that is ever estimated for it. And where the
arithmetic fell short for the same model and method, it is taken to fall short as much again. It must never make an
estimate smaller than the arithmetic says, unless several runs of the very same shape agree that it needs less. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from ftsched.estimate import Estimate, Term
from ftsched.workload import Workload

TERM = "learned correction"
# So many runs of the same shape, that far apart at most, are believed against the arithmetic.
RUNS_THAT_AGREE = 3
AGREEMENT = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the same model and method: its shape, and the peak that was estimated and the one measured, in bytes."""

    shape: str
    estimated_bytes: int
    measured_bytes: int


def shape_key(work: Workload) -> str:
    """All that a workload says but its method, as one line: runs with the same key allocate the same."""
    return " ".join(f"{each.name}={getattr(work, each.name)}" for each in fields(work) if each.name != "method")


def learn(found: Estimate, shape: str, runs: Sequence[Run]) -> Estimate:
    """The estimate with the correction that `runs` teach about it; the same one if they teach nothing.

    `found` is what the arithmetic says, `runs` are those of the same model and method. A run without a measured or an
    estimated peak teaches nothing.
    """
    useful = [run for run in runs if run.measured_bytes > 0 and run.estimated_bytes > 0]
    same = [run.measured_bytes for run in useful if run.shape == shape]
    least = max(same, default=0)
    if len(same) >= RUNS_THAT_AGREE and min(same) >= least * (1 - AGREEMENT):
        return _corrected(found, least, f"{len(same)} runs of this shape agree")
    ratio = max((run.measured_bytes / run.estimated_bytes for run in useful), default=1.0)
    scaled = int(found.peak_bytes * max(1.0, ratio))
    if least >= scaled:
        return _corrected(found, max(least, found.peak_bytes), "as a run of this shape has needed")
    return _corrected(found, scaled, f"as a run of this model has needed {ratio - 1:.0%} more than was estimated")


def _corrected(found: Estimate, peak: int, note: str) -> Estimate:
    change = peak - found.peak_bytes
    if not change:
        return found
    return replace(
        found,
        terms=(*found.terms, Term(TERM, change, note)),
        peak_bytes=peak,
        reserve_bytes=found.reserve_bytes + change,
    )
