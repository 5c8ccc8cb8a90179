"""Time, with a scheduler of a few lines: who arrives gets the card, whoever had it."""

from __future__ import annotations

import math

import pytest

from ftsched.simulate.engine import Run, simulate
from ftsched.simulate.formats import Job


class LastComeFirst:
    """One card; `wishes` are the times at which it wants to be asked besides."""

    def __init__(self, *wishes: float) -> None:
        self.runs: list[Run] = []
        self.wishes = list(wishes)
        self.asked: list[float] = []

    def arrive(self, run: Run) -> None:
        self.runs.append(run)

    def finish(self, run: Run) -> None:
        self.runs.remove(run)

    def next_wish(self, now: float) -> float:
        return next((wish for wish in self.wishes if wish > now), math.inf)

    def decide(self, now: float) -> None:
        self.asked.append(now)
        for run in self.runs[:-1]:
            if run.running:
                run.stop()
        if self.runs and not self.runs[-1].running:
            self.runs[-1].start(((0, 0),), now)


def runs(*jobs: tuple[float, float]) -> list[Run]:
    return [Run(Job(str(i), submit, 1, seconds, 1.0, 5.0), 1.0) for i, (submit, seconds) in enumerate(jobs)]


def test_a_stopped_job_keeps_its_progress_and_pays_for_each_start() -> None:
    """The first runs from 0 to 20, 5 of it start; the second to 35; the first again, 5 of start and the other 85."""
    first, second = runs((0, 100), (20, 10))
    outcome = simulate([first, second], LastComeFirst(), "restart")
    assert outcome.finished == {second: 35, first: 125}
    assert (first.stops, first.attained, first.first_started) == (1, 110, 0)
    assert (outcome.events, outcome.card_seconds) == (4, 125)


def test_a_start_that_is_cut_short_is_paid_for_no_further() -> None:
    """3 s of the start are lost when the second comes; then all 5 are due again."""
    first, second = runs((0, 100), (3, 10))
    assert simulate([first, second], LastComeFirst(), "restart").finished == {second: 18, first: 123}


def test_muri_charges_every_event_and_does_not_plan_for_it() -> None:
    """The event at 20 costs the first 5 s; none of the second's falls into an event but its end."""
    first, second = runs((0, 100), (20, 10))
    assert simulate([first, second], LastComeFirst(), "muri").finished == {second: 30, first: 115}


def test_a_wish_is_an_event_if_nothing_else_happens_then() -> None:
    """The event at 40 costs 5 s; so the job ends at 105, and a wish for that instant changes nothing."""
    scheduler = LastComeFirst(40, 105)
    (run,) = runs((0, 100))
    assert simulate([run], scheduler, "muri").finished == {run: 105}
    assert scheduler.asked == [0, 40, 105]


def test_arrivals_at_one_instant_are_one_event() -> None:
    scheduler = LastComeFirst()
    simulate(runs((0, 10), (0, 10)), scheduler, "restart")
    assert scheduler.asked == [0, 15, 30]


def test_what_never_fits_never_ends() -> None:
    class Nobody(LastComeFirst):
        def decide(self, now: float) -> None:
            pass

    (run,) = runs((0, 10))
    outcome = simulate([run], Nobody(), "restart")
    assert outcome.finished == {}
    assert outcome.events == 1
    assert run.first_started is None


@pytest.mark.parametrize("rules", ["muri", "restart"])
def test_a_cluster_may_be_empty_for_a_while(rules: str) -> None:
    one, other = runs((0, 10), (1000, 10))
    finished = simulate([one, other], LastComeFirst(), "muri" if rules == "muri" else "restart").finished
    assert finished[other] - 1000 == finished[one]
