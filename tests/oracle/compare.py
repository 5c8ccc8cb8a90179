"""The estimate of a configuration beside the peak of its step, and how far many such pairs are apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.oracle.configurations import Configuration
from tests.oracle.steps import peak_of

from ftsched.estimate import estimate


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was estimated and what the step allocated, in bytes; `moment` is the estimate's, the rest the step's."""

    name: str
    estimate_bytes: int
    oracle_bytes: int
    moment: str
    operation: str
    node: str

    @property
    def error_percent(self) -> float:
        """Over 0 where the estimate is too much."""
        return 100 * (self.estimate_bytes / self.oracle_bytes - 1)


def compare(each: Configuration) -> Outcome:
    """Runs the step and asks the estimator."""
    estimated, peak = estimate(each.workload(), each.config), peak_of(each)
    return Outcome(each.name, estimated.peak_bytes, peak.bytes, estimated.moment, peak.operation, peak.node)


def summary(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The number of outcomes, and their errors without signs in percent; the 95th percentile is one that occurred."""
    errors = sorted(abs(each.error_percent) for each in outcomes)
    p95 = errors[-(-95 * len(errors) // 100) - 1]
    return {"n": len(errors), "median": statistics.median(errors), "p95": p95, "worst": errors[-1]}
