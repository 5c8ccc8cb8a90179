"""Where a pod goes in the literature: a score for every node that fits it, the highest wins.

    random      any node and any card that fit
    bestfit     the node with the least left, the card with the least left
    firstfit    the first node of the list, the card with the least left
    fgd[:95]    where fragmentation falls most (Weng et al., ATC 2023); counted over the commonest shapes that make up
                so many per cent of the pods, over all without a number

Pods never leave, so cards of a node are only known by what they have left, sorted: nodes that look the same share their
scores. Nothing here knows the order of the pods.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple, Protocol

from ftsched.simulate.formats import MILLI, Node, Pod


class State(NamedTuple):
    """What a node has left; `cards` in thousandths, ascending."""

    cpu_milli: int
    memory_bytes: int
    cards: tuple[int, ...]
    model: str

    def fits(self, pod: Pod) -> bool:
        """Whether the pod could be placed now."""
        if self.cpu_milli < pod.cpu_milli or self.memory_bytes < pod.memory_bytes:
            return False
        if not pod.cards:
            return True
        # Ascending, so that enough cards have room if the one so far from the end does.
        enough = len(self.cards) >= pod.cards and self.cards[-pod.cards] >= pod.milli
        return enough and (not pod.models or self.model in pod.models)

    def after(self, pod: Pod, card: int = 0) -> State:
        """The state once the pod, which fits, took `card` and the following ones."""
        taken = [left - pod.milli for left in self.cards[card : card + pod.cards]]
        cards = sorted([*self.cards[:card], *taken, *self.cards[card + pod.cards :]]) if pod.cards else self.cards
        return State(self.cpu_milli - pod.cpu_milli, self.memory_bytes - pod.memory_bytes, tuple(cards), self.model)

    def tightest(self, pod: Pod) -> int:
        """The first card with enough left."""
        return next((card for card, left in enumerate(self.cards) if left >= pod.milli), 0)


def empty(node: Node) -> State:
    """A node before the first pod."""
    return State(node.cpu_milli, node.memory_bytes, (MILLI,) * node.cards, node.model)


class Packer(Protocol):
    """A policy of placement."""

    def score(self, state: State, pod: Pod) -> float:
        """How good a node is that fits; the highest wins."""

    def place(self, state: State, pod: Pod, draw: Random) -> State:
        """The node once it has the pod."""


class Equal:
    """All nodes and cards are equal, so that chance decides."""

    def score(self, state: State, pod: Pod) -> float:
        """The same for all."""
        return 0

    def place(self, state: State, pod: Pod, draw: Random) -> State:
        """Any card that fits, and those after it."""
        return state.after(pod, draw.randint(state.tightest(pod), max(0, len(state.cards) - max(1, pod.cards))))


class FirstFit:
    """All nodes are equal, but not the cards; the list decides."""

    def score(self, state: State, pod: Pod) -> float:
        """The same for all."""
        return 0

    def place(self, state: State, pod: Pod, draw: Random) -> State:
        """The card with the least left."""
        return state.after(pod, state.tightest(pod))


class BestFit:
    """The node with the least left, of CPU and of cards alike."""

    def score(self, state: State, pod: Pod) -> float:
        """As published: a node counts as if the largest had 128 cores and 8 cards."""
        cpu = (state.cpu_milli - pod.cpu_milli) / 128_000
        cards = (sum(state.cards) - pod.total_milli) / 8_000
        return math.floor(100 * (1 - cpu / 2 - cards / 2))

    def place(self, state: State, pod: Pod, draw: Random) -> State:
        """The card with the least left."""
        return state.after(pod, state.tightest(pod))


class Fgd:
    """Fragmentation gradient descent over the shapes of these pods."""

    def __init__(self, pods: Sequence[Pod], per_cent: float = 100.0) -> None:
        """`per_cent`: only the commonest shapes are counted, which make up so much of the pods."""
        counts = Counter((pod.cards, pod.milli, pod.cpu_milli, pod.models) for pod in pods)
        needed = len(pods) * per_cent / 100
        by_kind = defaultdict[tuple[int, int, frozenset[str]], list[tuple[int, float]]](list)
        for (cards, milli, cpu, models), count in counts.most_common():
            if needed <= 0:
                break
            by_kind[cards, milli, models].append((cpu, count))
            needed -= count
        total = sum(count for asks in by_kind.values() for _, count in asks)
        # For each kind of cards: the CPU asked for, ascending, and which share of the pods asks for no more.
        self._kinds: list[tuple[int, int, frozenset[str], list[int], list[float]]] = []
        for (cards, milli, models), asks in by_kind.items():
            cpus, shares = zip(*sorted((cpu, count / total) for cpu, count in asks), strict=True)
            self._kinds.append((cards, milli, models, [*cpus], [0.0, *accumulate(shares)]))
        self._waste: dict[tuple[int, tuple[int, ...], str], float] = {}

    def score(self, state: State, pod: Pod) -> float:
        """By how much fragmentation falls on the best card, squashed to whole per cent."""
        return self._scored(state, self.best(state, pod))

    def place(self, state: State, pod: Pod, draw: Random) -> State:
        """The card where fragmentation falls most."""
        return self.best(state, pod)

    def best(self, state: State, pod: Pod) -> State:
        """The best state that the pod can lead to."""
        if not pod.cards or pod.milli == MILLI:
            return state.after(pod, state.tightest(pod))
        cards = range(state.tightest(pod), len(state.cards))
        return min((state.after(pod, card) for card in cards), key=self.waste)

    def _scored(self, before: State, after: State) -> int:
        return math.floor(100 / (1 + math.exp((self.waste(after) - self.waste(before)) / MILLI)))

    def waste(self, state: State) -> float:
        """Idle thousandths that an average pod could not use."""
        key = (state.cpu_milli, state.cards, state.model)
        found = self._waste.get(key)
        if found is None:
            found = self._waste[key] = self._wasted(state)
        return found

    def _wasted(self, state: State) -> float:
        idle = sum(state.cards)
        wasted = float(idle)
        for cards, milli, models, cpus, shares in self._kinds:
            # A pod that needs no card can use none, and one that does not fit neither: for them all is wasted.
            if not cards or len(state.cards) < cards or state.cards[-cards] < milli:
                continue
            if models and state.model not in models:
                continue
            usable = sum(left for left in state.cards if left >= milli)
            wasted -= shares[bisect_right(cpus, state.cpu_milli)] * usable
        return wasted


class ScoreBoard:
    """The nodes under a packer. Among equal scores chance decides, or with `first` the order of the list."""

    def __init__(self, nodes: Iterable[Node], packer: Packer, draw: Random, *, first: bool = False) -> None:
        self._states = [empty(node) for node in nodes]
        self._packer = packer
        self._draw = draw
        self._first = first
        self._known: dict[tuple[State, Pod], float] = {}
        # The scores of all nodes for a pod, and how many of the changes of `_log` they have seen.
        self._scores: dict[Pod, tuple[list[float], int]] = {}
        self._log: list[int] = []

    def place(self, pod: Pod) -> bool:
        """Whether a node fits it; the best one has it then."""
        scores = self._updated(pod)
        best = max(scores)
        if best == -math.inf:
            return False
        if self._first:
            node = scores.index(best)
        else:
            node = self._draw.choice([node for node, score in enumerate(scores) if score == best])
        self._states[node] = self._packer.place(self._states[node], pod, self._draw)
        self._log.append(node)
        return True

    def _updated(self, pod: Pod) -> list[float]:
        """The scores of all nodes; since the last such pod only a few of them have changed."""
        if pod in self._scores:
            scores, seen = self._scores[pod]
            for node in set(self._log[seen:]):
                scores[node] = self._score(self._states[node], pod)
        else:
            scores = [self._score(state, pod) for state in self._states]
        self._scores[pod] = scores, len(self._log)
        return scores

    def _score(self, state: State, pod: Pod) -> float:
        key = (state, pod)
        found = self._known.get(key)
        if found is None:
            found = self._packer.score(state, pod) if state.fits(pod) else -math.inf
            self._known[key] = found
        return found
