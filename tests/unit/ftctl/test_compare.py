"""`ftctl compare`: what differs, what was measured, and the curves over each other."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, training_events
from tests.unit.ftctl.conftest import Run

Matches = Callable[..., None]


@pytest.fixture
def two(daemon: FakeDaemon) -> FakeDaemon:
    """Two trainings that differ in rank and data, one of them half done."""
    for index, (state, rank, steps) in enumerate((("SUCCEEDED", 8, 20), ("RUNNING", 32, 10))):
        made = job(state, step=steps, total=20)
        made.id, made.name = ("k7m2p9x4qd", "f5nopqrstu")[index], f"support-v{index + 3}"
        made.resolved.lora.rank, made.resolved.seed = rank, 42
        made.resolved.data.train.add(path=f"/srv/projects/support/data/tickets-with-answers-{index}.jsonl")
        daemon.jobs[made.id] = made
        daemon.events[made.id] = training_events(steps)
        for number, event in enumerate(daemon.events[made.id]):
            if event.HasField("step"):
                event.step.loss = 0.5 + 2.5 * math.exp(-number / (4 + 4 * index))
    daemon.events["f5nopqrstu"][3].step.extra["entropy"] = 1.5
    return daemon


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("compare", ["support-v3", "support-v4"]),
        ("compare-changed", ["support-v3", "support-v4", "--only-changed"]),
        ("compare-same", ["support-v3", "k7m2", "--only-changed"]),
        ("compare-chart", ["support-v3", "support-v4", "--only-changed", "--chart", "grad_norm", "--x", "tokens"]),
        ("compare-one", ["support-v3"]),
        ("compare-no-metric", ["support-v3", "support-v4", "--chart", "accuracy"]),
    ],
)
def test_in_a_pipe(matches: Matches, name: str, args: list[str]) -> None:
    matches(name, "compare", *args)


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal(matches: Matches, on_terminal: Callable[[int], None], width: int) -> None:
    on_terminal(width)
    matches(f"compare-{width}", "compare", "support-v3", "support-v4")


@pytest.mark.usefixtures("two")
def test_for_programs(ftctl: Run) -> None:
    told = json.loads(ftctl("compare", "support-v3", "support-v4", "-o", "json").out)
    assert told["changed"] == ["data.train[0].path", "lora.rank"]
    assert [each["spec"]["lora.rank"] for each in told["jobs"]] == [8, 32]
    assert told["jobs"][1]["metrics"]["entropy"]["last"] == 1.5
    assert "    lora.rank: 32\n" in ftctl("compare", "support-v3", "support-v4", "-o", "yaml").out


def test_jobs_that_have_not_begun(daemon: FakeDaemon, ftctl: Run) -> None:
    for name in ("one", "two"):
        waiting = job("QUEUED")
        waiting.id = waiting.name = name
        waiting.ClearField("progress")
        waiting.ClearField("start_time")
        daemon.jobs[name] = waiting
    done = ftctl("compare", "one", "two", "--chart", "loss")
    assert done.code == 1
    assert "there are none yet" in done.err
    assert "queued" in ftctl("compare", "one", "two", "--log-y").out
