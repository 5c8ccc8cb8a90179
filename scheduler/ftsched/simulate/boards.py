"""The boards of packing by the names of their policies: `ours`, or one of the literature. Nothing here places a pod."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ftsched.simulate.formats import Pod
from ftsched.simulate.pack import NewBoard
from ftsched.simulate.packers import BestFit, Equal, Fgd, FirstFit, Packer, ScoreBoard
from ftsched.simulate.placed import PlacesBoard

NAMES = "ours, random, bestfit, firstfit, fgd, fgd:PER_CENT"
_PACKERS: Mapping[str, Callable[[], Packer]] = {"random": Equal, "bestfit": BestFit, "firstfit": FirstFit}


def new_board(policy: str, pods: Sequence[Pod]) -> NewBoard:
    """Builds the boards of the runs of a list of pods. Raises ValueError if there is no such policy."""
    if policy == "ours":
        return lambda nodes, _: PlacesBoard(nodes, pods)
    if policy in _PACKERS:
        return lambda nodes, draw: ScoreBoard(nodes, _PACKERS[policy](), draw, first=policy == "firstfit")
    if found := re.fullmatch(r"fgd(?::([1-9]\d?|100))?", policy):
        # One for all runs: what it learns of the waste of nodes holds in each.
        fgd = Fgd(pods, float(found[1] or 100))
        return lambda nodes, draw: ScoreBoard(nodes, fgd, draw)
    raise ValueError(policy)
