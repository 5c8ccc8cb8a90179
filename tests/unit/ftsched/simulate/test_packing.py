"""Placements worked out by hand on a node with two cards and one with one; pods in an order that tells them apart."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from ftsched.simulate.boards import new_board
from ftsched.simulate.formats import Pod, read_nodes, read_pods
from ftsched.simulate.pack import arriving, fill
from ftsched.simulate.packers import Fgd, State

DATA = Path(__file__).parents[3] / "data" / "traces"
NODES = read_nodes(DATA / "nodes.csv")
HALF, OTHER, PAIR, _, NO_CARD, _ = PODS = read_pods(DATA / "pods.csv")
WHOLE = Pod(1000, 1, 1, 1000)


def draw() -> Random:
    return Random(1)  # noqa: S311 -- a simulation, repeatable on purpose


def place(policy: str, *pods: Pod) -> list[bool]:
    board = new_board(policy, PODS)(NODES, draw())
    return [board.place(pod) for pod in pods]


@pytest.mark.parametrize("policy", ["ours", "bestfit", "fgd"])
def test_halves_leave_the_pair_its_cards(policy: str) -> None:
    assert place(policy, HALF, OTHER, PAIR) == [True, True, True]


def test_first_fit_breaks_the_pair_up() -> None:
    """Both halves go to the first node, onto one card; the pair then lacks one."""
    assert place("firstfit", HALF, OTHER, PAIR, WHOLE, WHOLE) == [True, True, False, True, True]


@pytest.mark.parametrize("policy", ["ours", "random", "bestfit", "firstfit", "fgd"])
def test_nothing_is_promised_twice(policy: str) -> None:
    assert place(policy, *[WHOLE] * 4) == [True, True, True, False]
    assert place(policy, *[HALF] * 7) == [True] * 6 + [False]


@pytest.mark.parametrize("policy", ["ours", "random", "bestfit", "firstfit", "fgd"])
def test_hosts_run_out_of_cpu_and_memory(policy: str) -> None:
    """The nodes have 4 cores and 4 GiB each."""
    assert place(policy, *[NO_CARD] * 9) == [True] * 8 + [False]
    large = Pod(1, 3 * 2**30, 0, 0)
    assert place(policy, large, large, large) == [True, True, False]


@pytest.mark.parametrize("policy", ["ours", "random", "bestfit", "firstfit", "fgd"])
def test_only_on_the_models_asked_for(policy: str) -> None:
    picky = Pod(1, 1, 1, 1000, frozenset({"B", "C"}))
    assert place(policy, picky, picky) == [True, False]


def test_what_a_pod_leaves() -> None:
    state = State(4000, 10, (300, 500, 1000), "A")
    assert state.fits(Pod(4000, 10, 1, 1000))
    assert not state.fits(Pod(4000, 10, 2, 1000))
    assert not state.fits(Pod(4001, 10, 0, 0))
    assert state.after(Pod(1000, 4, 1, 250), 1) == State(3000, 6, (250, 300, 1000), "A")
    assert state.after(Pod(1000, 4, 0, 0)) == State(3000, 6, (300, 500, 1000), "A")


def test_the_waste_of_a_node() -> None:
    """A quarter each: no card, all 1,500 are wasted; a half, nothing is; a pair, all; two whole CPUs too many, all."""
    fgd = Fgd([NO_CARD, HALF, PAIR, Pod(9000, 1, 1, 500)])
    assert fgd.waste(State(4000, 10, (500, 1000), "A")) == 1500 * 3 / 4


def test_the_commonest_shapes_alone() -> None:
    """90 % are halves: for them nothing is wasted, and the pair does not count."""
    pods = [HALF] * 9 + [PAIR]
    state = State(4000, 10, (500, 1000), "A")
    assert Fgd(pods, 90).waste(state) == 0
    assert Fgd(pods, 91).waste(state) == 150


def test_pods_arrive_once_each_and_then_again() -> None:
    pods = [HALF, PAIR, NO_CARD]
    coming = arriving(pods, 5000, draw())
    assert sorted(coming[:3], key=pods.index) == pods
    total = sum(pod.total_milli for pod in coming)
    assert 5000 - 2000 < total <= 5000
    assert arriving(pods, 2400, draw()) == coming[:3]


def test_marks_are_taken_when_so_much_was_asked_for() -> None:
    """Of 3,000: 83 % asked for and in use; then 117 % asked for, and the fourth found no card."""
    board = new_board("bestfit", PODS)(NODES, draw())
    found = fill(board, [PAIR, HALF, WHOLE], 3000, 1.2, seed=5)
    assert (found.seed, found.pods, found.failed) == (5, 3, 1)
    assert found.allocated == {mark: pytest.approx(100 * 2500 / 3000) for mark in ("80", "90", "100", "110", "120")}
