"""What a job has measured as rows, as a frame and as a chart; and how records show themselves in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, training_events

from ftclient import AsyncClient, Client, notebook

STEPS = 10


@pytest.fixture
def finished(daemon: FakeDaemon) -> str:
    made = job("SUCCEEDED", step=STEPS, name="<b>")
    daemon.jobs[made.id] = made
    daemon.events[made.id] = training_events(STEPS)
    daemon.events[made.id][2].step.loss = math.nan
    daemon.events[made.id][3].step.extra["margin"] = 0.5
    return made.id


async def test_rows(daemon: FakeDaemon, client: Client, finished: str) -> None:
    found = client.history(finished)
    assert [row["step"] for row in found.rows] == [*range(1, STEPS + 1), STEPS]
    assert (found.rows[2]["margin"], found.rows[-1]["eval_loss"]) == (0.5, 1.25)
    async with AsyncClient(daemon.address) as other:
        again = await other.history(finished)
        assert [event.seq for event in again.events] == [event.seq for event in found.events]


def test_a_frame(client: Client, finished: str) -> None:
    pytest.importorskip("pandas")
    frame = client.history(finished).frame()
    assert list(frame.index) == list(range(2, STEPS + 3))
    assert frame["eval_loss"].count() == 1
    assert math.isnan(frame["loss"].iloc[1])
    assert frame["margin"].dropna().tolist() == [0.5]
    assert frame["step"].dtype == "int64"


def test_a_frame_of_a_job_that_has_measured_nothing(daemon: FakeDaemon, client: Client, finished: str) -> None:
    pytest.importorskip("pandas")
    daemon.events[finished] = []
    assert client.history(finished).frame().empty
    assert "has measured nothing yet" in shown(client.history(finished))[0]


def test_a_chart(client: Client, finished: str) -> None:
    html, tree = shown(client.history(finished))
    (line,) = tree.iter("polyline")
    assert len(line.attrib["points"].split()) == STEPS - 1
    assert len(list(tree.iter("circle"))) == 1
    assert f"loss of {finished} from step 1 to {STEPS}" in html


def test_a_chart_of_many_steps_is_small_and_keeps_every_spike() -> None:
    rows: list[Mapping[str, Any]] = [{"step": step, "loss": 1.0 + (step == 7777) * 9} for step in range(100_000)]
    html = notebook.chart("j", rows)
    assert len(html) < 30_000
    assert "highest 10" in html


def test_a_record(client: Client, finished: str) -> None:
    html, tree = shown(client.get(finished))
    assert "<b>" not in html
    cells = dict(zip([c.text for c in tree.iter("th")], [c.text for c in tree.iter("td")], strict=True))
    assert (cells["state"], cells["labels"], cells["priority"]) == ("succeeded", "team=cx", "0")
    assert not {"spec", "proto", "failure", "output_path"} & set(cells)


def shown(record: Any) -> tuple[str, ElementTree.Element]:
    """What a notebook shows of it, also as a tree."""
    html = record._repr_html_()
    return html, ElementTree.fromstring(f"<div>{html}</div>")  # noqa: S314
