"""Packing: pods arrive until they ask for more than there is, and never leave; how much of the cards is in use?

The pods of a list arrive once each in random order, then at random again, until they ask for so many times the cards. A
pod that fits nowhere is dropped, but counts as arrived. Where a pod goes is decided by a `Board`; nothing here places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, pstdev
from typing import Protocol

from ftsched.simulate.formats import MILLI, Node, Pod

MARKS = (80, 90, 100, 110)
DIGITS = 3


class Board(Protocol):
    """A cluster that fills up under one policy."""

    def place(self, pod: Pod) -> bool:
        """Whether the pod found a place, which it then keeps."""


# Builds the board of one run; the random numbers are for its ties.
NewBoard = Callable[[Sequence[Node], Random], Board]


@dataclass(frozen=True, slots=True)
class Filled:
    """One run: how many pods arrived and were dropped, and the per cent of the cards in use at each mark."""

    seed: int
    pods: int
    failed: int
    allocated: dict[str, float]


def pack(
    nodes: Sequence[Node], pods: Sequence[Pod], arrivals: float, seeds: Sequence[int], board: NewBoard
) -> dict[str, object]:
    """Fill the cluster once for each seed, up to `arrivals` times its cards; the runs, their mean and deviation."""
    capacity = MILLI * sum(node.cards for node in nodes)
    runs = []
    for seed in seeds:
        draw = Random(seed)  # noqa: S311 -- a simulation, repeatable on purpose
        coming = arriving(pods, arrivals * capacity, draw)
        runs.append(fill(board(nodes, draw), coming, capacity, arrivals, seed))
    by_mark = {mark: [run.allocated[mark] for run in runs] for mark in runs[0].allocated}
    mean = {mark: fmean(values) for mark, values in by_mark.items()}
    unallocated = capacity / MILLI * (1 - [*mean.values()][-1] / 100)
    return {
        "runs": [
            {"seed": run.seed, "pods": run.pods, "failed": run.failed, "allocated": _rounded(run.allocated)}
            for run in runs
        ],
        "mean": _rounded(mean),
        "sd": _rounded({mark: pstdev(values) for mark, values in by_mark.items()}),
        "unallocated_gpus": round(unallocated, DIGITS),
    }


def arriving(pods: Sequence[Pod], most_milli: float, draw: Random) -> list[Pod]:
    """All pods in random order, then any of them again until the next would lift their sum over `most_milli`."""
    coming = draw.sample(pods, len(pods))
    asked = sum(pod.total_milli for pod in pods)
    while asked + (pod := draw.choice(pods)).total_milli <= most_milli:
        coming.append(pod)
        asked += pod.total_milli
    return coming


def fill(board: Board, coming: Sequence[Pod], capacity: int, arrivals: float, seed: int) -> Filled:
    """Let the pods arrive one by one. A mark is the state when so many per cent were asked for, the last the end."""
    asked = used = failed = 0
    last = round(100 * arrivals)
    marks = [mark for mark in MARKS if mark < last]
    allocated = {}
    for pod in coming:
        asked += pod.total_milli
        if board.place(pod):
            used += pod.total_milli
        else:
            failed += 1
        while marks and 100 * asked >= marks[0] * capacity:
            allocated[str(marks.pop(0))] = 100 * used / capacity
    # Of few and large pods none may bring a mark exactly, so that what is missing is the state at the end, too.
    allocated |= {str(mark): 100 * used / capacity for mark in (*marks, last)}
    return Filled(seed, len(coming), failed, allocated)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {mark: round(value, DIGITS) for mark, value in values.items()}
