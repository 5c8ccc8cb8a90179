"""`ftctl metrics`: the series behind its charts, the charts, and which form it prints where."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import START, job, training_events
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import event_pb2
from ftclient.wire import read_event
from ftctl.live.chart import Axis, Curve
from ftctl.live.history import History
from ftctl.live.plot import Plot

Matches = Callable[..., None]


def resumed() -> list[event_pb2.TrainingEvent]:
    """Twenty steps, an evaluation at the tenth, and a second attempt from there that does ten again."""
    events = training_events(20)
    for number, event in enumerate(events):
        if event.HasField("step"):
            event.step.loss = 0.5 + 2.5 * math.exp(-number / 6)
            event.step.extra["entropy"] = 1.2 - 0.01 * number
    evaluation = event_pb2.TrainingEvent(attempt=1, evaluation=event_pb2.EvaluationMetrics(step=10, loss=1.2))
    started = event_pb2.TrainingEvent(attempt=2, started=event_pb2.AttemptStarted(first_step=10, total_steps=20))
    again = [event_pb2.TrainingEvent.FromString(event.SerializeToString()) for event in events[11:21]]
    told = [*events[:11], evaluation, *events[11:21], started, *again]
    for offset, event in enumerate(told):
        event.time.seconds = START + 60 * offset
    return told


def history_of(events: list[event_pb2.TrainingEvent], weight: float = 0.0) -> History:
    history = History(weight)
    for seq, message in enumerate(events, 1):
        event = read_event(message, seq)
        assert event is not None
        history.take(event)
    return history


def test_a_series_by_steps_time_and_tokens() -> None:
    history = history_of(resumed())
    assert [x for x, _ in history.points("loss")] == list(range(1, 21))
    # Step 11 was done again after the start of the second attempt, the 22nd event.
    assert [x for x, _ in history.points("loss", Axis.TIME)][9:12] == [600, 23 * 60, 24 * 60]
    assert history.points("loss", Axis.TOKENS)[-1][0] == 2000
    assert history.points("eval_loss", Axis.TOKENS) == [(1000, 1.2)]
    assert [x for x, _ in history.points("entropy")] == list(range(1, 21))
    ((attempt, place),) = history.restarts
    assert (attempt, place.step, place.time) == (2, 10, 22 * 60)


def test_a_smoothed_series_moves_by_its_weight() -> None:
    events = [event_pb2.TrainingEvent(step=event_pb2.StepMetrics(step=n, loss=n)) for n in (1, 2, 3)]
    assert history_of(events, 0.5).points("loss", smooth=True) == [(1, 1.0), (2, 1.5), (3, 2.25)]


def test_a_logarithmic_axis_has_no_place_for_zero() -> None:
    curve = Curve([(1, 100.0), (2, 0.0), (3, 1.0)], "")
    top, _, middle, _, bottom, axis = Plot([curve], log_y=True).draw(40, 5).plain.splitlines()
    # A little more than the two decades; so the middle is a little more than the first.
    assert [line.partition(" ┤")[0].strip() for line in (top, middle, bottom)] == ["120.2", "10.96", "1"]
    assert axis.endswith("step 3")
    assert Plot([Curve([(1, 0.0)], "")], log_y=True).draw(40, 4).plain == "no value above 0"


def test_letters_at_the_ends_of_curves_stand_apart() -> None:
    curves = [Curve([(0, 1.0), (9, 0.0)], "", letter=letter) for letter in "AB"]
    shown = Plot(curves).draw(30, 4).plain.splitlines()
    assert [line[-1] for line in shown[:4]] == [" ", " ", "B", "A"]


@pytest.mark.parametrize(
    ("x", "axis"),
    [
        (3, "0       again      step 9"),
        (6, "0           again  step 9"),
        (0, "0                  step 9"),
        (7, "0                  step 9"),
        (99, "0                  step 9"),
    ],
)
def test_a_word_stands_behind_its_mark_or_before_it(x: float, axis: str) -> None:
    plot = Plot([Curve([(0, 0.0), (9, 9.0)], "")], marks=[(x, "again")])
    assert plot.draw(31, 3).plain.splitlines()[-1].lstrip(" └") == axis


@pytest.fixture
def training(daemon: FakeDaemon) -> FakeDaemon:
    made = job("SUCCEEDED", step=20, total=20)
    daemon.jobs[made.id] = made
    daemon.events[made.id] = resumed()
    return daemon


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("chart", []),
        ("chart-some", ["-m", "loss,entropy", "--x", "time", "--smooth", "0"]),
        ("chart-log", ["-m", "loss", "--log-y", "--x", "tokens"]),
        ("chart-unknown", ["-m", "loss,nothing"]),
    ],
)
def test_charts(matches: Matches, on_terminal: Callable[[int], None], name: str, args: list[str]) -> None:
    on_terminal(80)
    matches(f"metrics-{name}", "metrics", "support-v3", *args)


@pytest.mark.usefixtures("training")
def test_charts_go_on_until_the_job_ends(ftctl: Run, on_terminal: Callable[[int], None]) -> None:
    on_terminal(80)
    followed = ftctl("metrics", "support-v3", "-m", "loss", "--follow")
    assert followed.code == 0
    assert "step 20" in followed.out


@pytest.mark.usefixtures("training")
def test_charts_are_for_terminals_unless_asked_for(ftctl: Run) -> None:
    assert ftctl("metrics", "support-v3").out.startswith("STEP  EPOCH")
    assert "step 20" in ftctl("metrics", "support-v3", "-o", "chart").out
    refused = ftctl("metrics", "support-v3", "--log-y")
    assert refused.code == 2
    assert "use -o chart" in refused.err


def test_a_job_that_has_measured_nothing(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.jobs["k7m2p9x4qd"] = job("SUCCEEDED")
    assert ftctl("metrics", "@last", "-o", "chart", "-m", "grad_norm").out == "grad_norm\nno value yet\n\n"
