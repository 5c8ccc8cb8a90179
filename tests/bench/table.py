"""How a benchmark prints: one line per figure, with what it is held against and the ratio, both from this run."""

from __future__ import annotations

from collections.abc import Sequence


def title(text: str) -> None:
    print(f"\n{text}")


def line(name: str, value: float, unit: str, against: str = "", limit: float = 0.0) -> None:
    """`limit` is the figure of what we compare with, in the same unit; 0: nothing to compare."""
    ratio = f"   {value / limit:5.2f} x  {against} ({limit:,.4g})" if limit else ""
    print(f"  {name:<44} {value:>12,.4g} {unit:<10}{ratio}", flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
