"""The cards of a cluster and which of them a job takes, for the policies of the literature.

`ours` never comes here: its places are those of `ftsched.plan`. A card is (node, index); its room is counted in
thousandths. Nothing here knows time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ftsched.simulate.formats import MILLI, Job

Card = tuple[int, int]
Place = tuple[Card, ...]
# Which cards a job would take now; empty: it does not fit.
Placement = Callable[["Cluster", Job], Place]


class Cluster:
    """The room of every card, and how many cards of each node are idle."""

    def __init__(self, nodes: int, cards: int) -> None:
        self.cards = cards
        self.free = [[MILLI] * cards for _ in range(nodes)]
        self.idle = [cards] * nodes
        self.all_idle = nodes * cards

    def copy(self) -> Cluster:
        """Another cluster in the same state."""
        twin = Cluster(0, self.cards)
        twin.free, twin.idle, twin.all_idle = [list(node) for node in self.free], list(self.idle), self.all_idle
        return twin

    def take(self, place: Iterable[Card], milli: int) -> None:
        """Take so much of each card; it must be free."""
        for node, index in place:
            if self.free[node][index] == MILLI:
                self.idle[node] -= 1
                self.all_idle -= 1
            self.free[node][index] -= milli

    def give(self, place: Iterable[Card], milli: int) -> None:
        """Give back what was taken."""
        for node, index in place:
            self.free[node][index] += milli
            if self.free[node][index] == MILLI:
                self.idle[node] += 1
                self.all_idle += 1

    def idle_cards(self, node: int, count: int) -> Place:
        """The first `count` idle cards of a node that has so many."""
        found = [(node, index) for index, free in enumerate(self.free[node]) if free == MILLI]
        return tuple(found[:count])

    def has(self, place: Iterable[Card], milli: int) -> bool:
        """Whether each of the cards has so much left."""
        return all(self.free[node][index] >= milli for node, index in place)


def first_node(cluster: Cluster, job: Job) -> Place:
    """The first node that has enough idle cards; a job larger than a node takes idle nodes, lowest index first."""
    return _placed(cluster, job, lambda fitting: next(iter(fitting)))


def fullest_node(cluster: Cluster, job: Job) -> Place:
    """The fullest node and card that fit; a job larger than a node takes idle nodes, lowest index first."""
    if job.milli < MILLI and (shared := _fullest_card(cluster, job.milli)):
        return shared
    return _placed(cluster, job, lambda fitting: min(fitting, key=lambda node: (sum(cluster.free[node]), node)))


def count_only(cluster: Cluster, job: Job) -> Place:
    """Any idle cards: enough of them anywhere will do."""
    if cluster.all_idle < job.cards:
        return ()
    everywhere = (card for node, idle in enumerate(cluster.idle) for card in cluster.idle_cards(node, idle))
    return tuple(card for card, _ in zip(everywhere, range(job.cards), strict=False))


def _placed(cluster: Cluster, job: Job, pick: Callable[[list[int]], int]) -> Place:
    # Most jobs of a long queue are refused by this one comparison.
    if cluster.all_idle < job.cards:
        return ()
    whole, rest = divmod(job.cards, cluster.cards) if job.cards > cluster.cards else (0, job.cards)
    nodes = [node for node, idle in enumerate(cluster.idle) if idle == cluster.cards][:whole]
    if len(nodes) < whole:
        return ()
    place = tuple(card for node in nodes for card in cluster.idle_cards(node, cluster.cards))
    if not rest:
        return place
    fitting = [node for node, idle in enumerate(cluster.idle) if idle >= rest and node not in nodes]
    return place + cluster.idle_cards(pick(fitting), rest) if fitting else ()


def _fullest_card(cluster: Cluster, milli: int) -> Place:
    rooms = [
        (free, sum(node), number, index)
        for number, node in enumerate(cluster.free)
        for index, free in enumerate(node)
        if milli <= free < MILLI
    ]
    return (min(rooms)[2:],) if rooms else ()
