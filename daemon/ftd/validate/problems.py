"""What a rule of the spec yields, and how it words lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ftd.spec import DeviceKind, TrainingSpec

# A path below `training`, and what is wrong and accepted there.
Problem = tuple[str, str]
Rule = Callable[[TrainingSpec, DeviceKind], Iterator[Problem]]


def listed(words: Sequence[str], last: str) -> str:
    """E.g. "a, b or c"."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]
