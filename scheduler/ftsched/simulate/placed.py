"""The daemon's own placement as a board of the packing simulation: `Places.find`, which every plan asks for each job.

A plan for each pod would look at all hosts anew; here the hosts are surveyed once and pods are put on them one after
the other, as jobs are within one plan. A thousandth of a card is a byte. A pod without cards is a job on the CPU of a
host, as for the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ftsched.fit import survey
from ftsched.fragments import Fragments
from ftsched.model import Ask, Device, Host, Needs, Policy, Snapshot
from ftsched.places import Places
from ftsched.simulate.formats import MILLI, Node, Pod


class PlacesBoard:
    """Hosts that fill up; the list of the pods is the recent history that fragments are judged by."""

    def __init__(self, nodes: Sequence[Node], pods: Sequence[Pod]) -> None:
        hosts = tuple(Host(node.id, Needs(node.cpu_milli, node.memory_bytes)) for node in nodes)
        devices = tuple(device for node in nodes for device in _devices(node))
        policy = Policy(placement="pack")
        self._places = Places(survey(Snapshot(devices, hosts=hosts)), Fragments(_ask(pod) for pod in pods), policy)

    def place(self, pod: Pod) -> bool:
        """Whether the pod found a place, which it then keeps."""
        ask = _ask(pod)
        found = self._places.find(ask)
        self._places.take(found, "pod", ask, inf)
        return bool(found)


def _ask(pod: Pod) -> Ask:
    host = Needs(pod.cpu_milli, pod.memory_bytes)
    if not pod.cards:
        return Ask("cpu", 1, 0, host=host)
    return Ask("gpu", pod.cards, pod.milli, host=host, models=tuple(sorted(pod.models)))


def _devices(node: Node) -> list[Device]:
    cards = [Device(f"{node.id}/{i}", node.id, "gpu", node.model, i, MILLI, 0) for i in range(node.cards)]
    # Of no size: its memory is that of the host, which is counted there.
    return [*cards, Device(f"{node.id}/cpu", node.id, "cpu", "CPU", 0, 1, 0)]
