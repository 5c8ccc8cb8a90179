"""What has become of all jobs, and the labels they are found by."""

from __future__ import annotations

import json
from collections.abc import Callable

import grpc
import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import START, job
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_changes_pb2, job_service_pb2

STORY = [
    (0, 1, "its data is to be prepared"),
    (1, 2, "data is ready"),
    (2, 3, "starting on GPU-0"),
    (3, 4, "training"),
    (4, 8, "out of GPU memory at step 3: 23.1 of 24.0 GiB in use"),
]


@pytest.fixture
def told(daemon: FakeDaemon) -> FakeDaemon:
    """The life of a job that failed, and that it was deleted."""
    for number, (before, after, why) in enumerate(STORY, start=1):
        change = job_changes_pb2.JobChange(cursor=str(number), job="k7m2p9x4qd", name="support-v3", revision=number)
        change.transition.time.seconds, change.transition.actor = START + 10 * number, "daemon"
        change.transition.from_state, change.transition.to_state = before, after
        change.transition.reason.message = why
        daemon.changes.append(change)
    gone = job_changes_pb2.JobChange(cursor="6", job="k7m2p9x4qd", name="support-v3", revision=5)
    gone.delete_time.seconds = START + 90
    daemon.changes.append(gone)
    return daemon


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("name", "args"), [("events", ["events"]), ("events-after", ["events", "--after", "4"])])
def test_changes_are_lines(matches: Callable[..., None], name: str, args: list[str]) -> None:
    matches(name, *args)


@pytest.mark.parametrize("cut", range(7))
def test_a_stream_that_is_cut_goes_on_where_it_was(told: FakeDaemon, ftctl: Run, cut: int) -> None:
    told.cuts.append(cut)
    lines = [json.loads(line) for line in ftctl("events", "-o", "jsonl").out.splitlines()]
    assert [line["cursor"] for line in lines] == ["1", "2", "3", "4", "5", "6"]


def test_what_is_asked_for_reaches_the_daemon(told: FakeDaemon, ftctl: Run) -> None:
    asked = ("-l", "team=cx", "-l", "size in (s,m)", "--state", "failed", "--project", "nlp")
    assert ftctl("events", *asked).code == 0
    seen = told.requests[-1]
    assert isinstance(seen, job_changes_pb2.WatchJobsRequest)
    assert (seen.selector, list(seen.states), seen.project) == ("team=cx,size in (s,m)", [8], "nlp")
    assert ftctl("get", "-l", "team=cx,!draft").code == 0
    listed = told.requests[-1]
    assert isinstance(listed, job_service_pb2.ListJobsRequest)
    assert listed.selector == "team=cx,!draft"


def test_labels_are_set_and_removed(daemon: FakeDaemon, matches: Callable[..., None], ftctl: Run) -> None:
    made = job()
    made.labels.update({"draft": "1", "keep": "a=b"})
    daemon.jobs[made.id] = made
    matches("label", "label", "support-v3", "stage=live", "draft-", "note=")
    assert ftctl("label", "@last", "stage-", "team-", "keep-", "note-").out.endswith("no labels\n")


def test_a_description_has_annotations_and_trace(daemon: FakeDaemon, ftctl: Run) -> None:
    made = job(annotations={"ticket": "FT-7"}, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    daemon.jobs[made.id] = made
    said = ftctl("describe", made.id).out
    assert "Annotations: ticket=FT-7\n" in said
    assert f"Trace:       {made.traceparent}\n" in said


def test_what_is_refused_is_told(told: FakeDaemon, ftctl: Run) -> None:
    told.cut_code = grpc.StatusCode.OUT_OF_RANGE
    told.cuts.append(0)
    done = ftctl("events")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
