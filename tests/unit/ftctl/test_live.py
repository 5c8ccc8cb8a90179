"""The live view: the folding of events, the curves, the picture at several sizes, and a real terminal."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from rich.console import Console
from tests.fakes.daemon import FakeDaemon
from tests.support.client import START, job, log_lines, training_events
from tests.support.terminal import Terminal
from tests.unit.ftctl.conftest import same_as_golden

from finetuned.v1 import event_pb2, job_pb2
from ftclient import Client, Job
from ftclient.wire import read, read_event
from ftctl.live import history, screen
from ftctl.live import view as pipe
from ftctl.live.chart import Curve, draw, frame_of, sparkline
from ftctl.live.feed import Feed
from ftctl.live.model import View

NOW = datetime.fromtimestamp(START + 75, UTC)


def a_view(state: str = "RUNNING", steps: int = 30, **fields: object) -> View:
    """A training that has done all its steps."""
    view = View(read(Job, job(state, step=steps, total=40, **fields)))
    view.take(view.job)
    for seq, message in enumerate(training_events(steps), 1):
        if message.HasField("step"):
            message.step.loss = 1 + 2 * math.exp(-seq / 8) + 0.2 * math.sin(seq)
        take(view, message, seq)
    view.lines.extend(["loading weights: 10%\rloading weights: 100%\r", "\tstep 30", "x" * 200])
    return view


def take(view: View, message: event_pb2.TrainingEvent, seq: int = 1) -> None:
    event = read_event(message, seq)
    assert event is not None
    view.take(event)


def step(number: int, loss: float) -> event_pb2.TrainingEvent:
    return event_pb2.TrainingEvent(step=event_pb2.StepMetrics(step=number, loss=loss))


def drawn(view: View, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(screen.live(view, screen.Size(width, height), NOW))
    return captured.get().splitlines()


def test_events_are_folded() -> None:
    view = a_view(steps=10)
    assert [number for number, _ in view.losses] == list(range(1, 11))
    assert view.evals == [(10, 1.25)]
    assert view.checkpoint == "checkpoint-10"
    assert view.done == 10
    assert view.peak_bytes == 1_200_000_000


def test_a_loss_that_is_not_a_number_is_said_and_not_drawn() -> None:
    view = a_view(steps=5)
    take(view, step(6, math.nan))
    assert view.history.broken == {"loss"}
    assert len(view.losses) == 5
    assert "not a number" in "\n".join(drawn(view, 80, 24))


def test_steps_that_are_done_again_are_drawn_once() -> None:
    view = a_view(steps=10)
    take(view, event_pb2.TrainingEvent(started=event_pb2.AttemptStarted(first_step=6, total_steps=40)))
    take(view, step(7, 1.0))
    assert [number for number, _ in view.losses] == [1, 2, 3, 4, 5, 6, 7]
    assert view.evals == []


def test_an_attempt_that_resumes_is_marked() -> None:
    view = a_view()
    take(view, event_pb2.TrainingEvent(attempt=2, started=event_pb2.AttemptStarted(first_step=20, total_steps=40)))
    for number in range(21, 41):
        take(view, step(number, 1.0))
    picture = drawn(view, 80, 24)
    assert "attempt 2" in picture[0]
    (axis,) = (line for line in picture[1:] if "attempt 2" in line)
    column = axis.index("attempt 2")
    assert sum(line[column : column + 1] == "┊" for line in picture) >= 5
    take(view, event_pb2.TrainingEvent(attempt=3, started=event_pb2.AttemptStarted(first_step=10, total_steps=40)))
    assert [attempt for attempt, _ in view.history.restarts] == [3]


def test_memory_of_a_cpu_is_not_compared_with_an_estimate_of_tensors() -> None:
    view = a_view()
    assert "1.4 GiB estimated" in "\n".join(drawn(view, 80, 24))
    on_cpu = job(attempts=[job_pb2.Attempt(number=1, devices=["cpu"])])
    view.take(read(Job, on_cpu))
    assert "estimated" not in "\n".join(drawn(view, 120, 40))


def test_evaluations_and_answers_are_told_in_a_line() -> None:
    best = event_pb2.TrainingEvent(evaluation=event_pb2.EvaluationMetrics(step=8, loss=1.25, best=True))
    answers = event_pb2.GeneratedAnswers(step=8)
    answers.answers.add(set="eval_split", row=1, prompt="Q", expected="A line of jobs.", generated="A line\nof")
    told = [read_event(message, 1) for message in (best, event_pb2.TrainingEvent(answers=answers))]
    assert [pipe._told(event, "") for event in told if event] == [
        "step 8  eval loss 1.25, the best so far",
        "step 8  answers 'A line\\nof' where 'A line of jobs.' is expected",
    ]


def test_a_long_training_keeps_its_spikes_in_bounded_memory() -> None:
    view = View(read(Job, job()))
    for number in range(1, 3 * history.KEPT):
        take(view, step(number, 50.0 if number == 777 else 1.0))
    assert len(view.losses) <= history.KEPT
    assert (777, 50.0) in view.losses
    assert [number for number, _ in view.losses] == sorted(number for number, _ in view.losses)


def picture(curves: list[Curve], width: int, height: int) -> list[str]:
    return ["".join(cell.text for cell in row) for row in draw(curves, frame_of(curves), width, height)]


def test_curves_in_braille() -> None:
    falling = Curve([(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)], "a")
    assert picture([falling], 4, 2) == ["⠱⡀  ", " ⠈⠑⢄"]
    assert picture([Curve([(5, 1.0)], "a")], 3, 1) == ["⠂  "]


@pytest.mark.parametrize(
    ("ys", "low"), [((0.2, 9.0), 0.0), ((0.0, 0.0), 0.0), ((8.0, 9.0), 7.96), ((-1.0, 0.0), -1.04)]
)
def test_the_margin_of_a_frame_does_not_lead_below_zero(ys: tuple[float, ...], low: float) -> None:
    frame = frame_of([Curve(list(enumerate(ys)), "a")])
    assert frame.low == pytest.approx(low)
    assert frame.high > max(ys)


def test_a_point_is_drawn_over_a_line() -> None:
    line = Curve([(0, 0.0), (9, 0.0)], "line")
    points = Curve([(4, 0.0)], "point", dots=True)
    (row,) = draw([line, points], frame_of([line, points]), 5, 1)
    assert [cell.style for cell in row] == ["line", "line", "point", "line", "line"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([1.0], "▁"), ([2.0, 1.0], "█▁"), ([3.0, 3.0, 2.0, 2.0, 1.0, 1.0], "█▅▁"), ([1.0] * 9, "▁▁▁")],
)
def test_sparklines(values: list[float], expected: str) -> None:
    assert sparkline(values, 3) == expected


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (50, 16)])
def test_the_screen(width: int, height: int) -> None:
    same_as_golden(f"screen-{width}x{height}", "\n".join(drawn(a_view(), width, height)) + "\n")


@pytest.mark.parametrize("width", [40, 57, 80, 133, 200])
@pytest.mark.parametrize("height", [15, 24, 50])
@pytest.mark.parametrize(
    "view", [View(read(Job, job("QUEUED"))), a_view(), a_view(steps=1)], ids=["new", "late", "first"]
)
def test_the_screen_fits_any_terminal(view: View, width: int, height: int) -> None:
    lines = drawn(view, width, height)
    assert len(lines) == height
    assert max(len(line) for line in lines) <= width


def test_a_queued_job_says_why_it_waits() -> None:
    waiting = job("QUEUED", reason=job_pb2.Reason(message="asks 24.0 GiB, gpu 0 has 18.2 GiB free"))
    waiting.ClearField("progress")
    assert "asks 24.0 GiB, gpu 0 has 18.2 GiB free" in "\n".join(drawn(View(read(Job, waiting)), 100, 24))


def test_a_job_that_waits_again_says_why() -> None:
    view = a_view()
    view.take(read(Job, job("PAUSED", reason=job_pb2.Reason(message="held by maria"))))
    picture = drawn(view, 80, 24)
    assert picture[-1] == " held by maria"
    assert picture[0].endswith("● paused")


def test_a_notice_is_shown_for_a_while() -> None:
    view = a_view()
    told = event_pb2.TrainingEvent(notice=event_pb2.Notice(text="no GPU has bf16"))
    told.time.FromDatetime(NOW - timedelta(seconds=40))
    take(view, told)
    assert "Ctrl-C leaves the job running" in drawn(view, 80, 24)[-1]
    told.time.FromDatetime(NOW - timedelta(seconds=20))
    take(view, told)
    assert drawn(view, 80, 24)[-1] == " no GPU has bf16"


def test_the_last_words_of_a_failure() -> None:
    view = a_view("FAILED", failure=event_pb2.Failure(failure_class=1, message="out of memory", advice="use less"))
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(screen.summary(view, 80))
    words = captured.get()
    assert "✗ support-v3" in words
    assert "out_of_gpu_memory: out of memory" in words
    assert "use less" in words
    assert "step 30" in words


def test_the_feed_adds_the_attempts_that_the_stream_leaves_out(daemon: FakeDaemon) -> None:
    made = job("SUCCEEDED", attempts=[job_pb2.Attempt(number=1, devices=["cpu"])])
    daemon.jobs[made.id] = made
    daemon.watched[made.id] = [job("QUEUED"), job("RUNNING"), job("SUCCEEDED")]
    with Client(daemon.address) as client:
        feed = Feed(client, read(Job, job("QUEUED")))
        seen = []
        while not feed.finished:
            seen += [update for update in feed.next(1.0) if isinstance(update, Job)]
    assert [(each.state, len(each.attempts)) for each in seen] == [("queued", 0), ("running", 1), ("succeeded", 1)]


def test_on_a_terminal(daemon: FakeDaemon) -> None:
    made = job("SUCCEEDED", step=10, output_path="/runs/k7m2p9x4qd/output")
    made.end_time.FromDatetime(NOW + timedelta(seconds=15))
    daemon.jobs[made.id] = made
    daemon.events[made.id] = training_events(10)
    # So that there is a picture before the end.
    daemon.watched[made.id] = [job("RUNNING", step=step) for step in range(1, 10)] + [made]
    with Terminal("watch", "@last", "--exit-status", environ={"FTD_ADDRESS": daemon.address}) as terminal:
        assert terminal.ended() == 0
        assert "\x1b[?1049h" in terminal.written
        last_words = terminal.written.rpartition("\x1b[?1049l")[2]
    assert "✓" in last_words
    assert "/runs/k7m2p9x4qd/output" in last_words
    with Terminal("get", "jobs", environ={"FTD_ADDRESS": daemon.address}) as terminal:
        assert terminal.ended() == 0
        assert "\x1b[?1049l" not in terminal.written


def test_on_a_terminal_that_changes_its_size(daemon: FakeDaemon) -> None:
    made = job("RUNNING", step=30, total=40)
    daemon.jobs[made.id] = made
    again = event_pb2.TrainingEvent(attempt=2, started=event_pb2.AttemptStarted(first_step=10, total_steps=40))
    daemon.events[made.id] = [*training_events(20)[:-1], again, *training_events(30)[11:31]]
    daemon.log_lines[made.id] = log_lines(9)
    with Terminal("watch", "support-v3", environ={"FTD_ADDRESS": daemon.address}) as terminal:
        for width, height in ((80, 24), (120, 40), (60, 20)):
            terminal.resize(width, height)
            terminal.until(partial(_fills, width))
        terminal.interrupt()
        assert terminal.ended() == 130
        assert "re-attach: ftctl watch k7m2p9x4qd" in terminal.written


def _fills(width: int, lines: list[str]) -> bool:
    """Whether the picture has been drawn for this width, with what all three streams have to say."""
    tops = {len(line) for line in lines if line.startswith("╭")}
    whole = "support-v3" in lines[0] and "Ctrl-C" in lines[-1]
    parts = ("75%  step 30/40", "attempt 2", "eta 58s", "1.1 GiB of 1.9 GiB", "line 9")
    return whole and tops == {width} and all(part in "\n".join(lines) for part in parts)
