from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, log_lines, training_events

from finetuned.v1 import event_pb2, job_changes_pb2, metric_service_pb2
from ftclient import Client, CursorTooOld, JobState, NotFound, StepMetrics, Unavailable

STEPS = 10


@pytest.fixture
def finished(daemon: FakeDaemon) -> str:
    made = job("SUCCEEDED", step=STEPS)
    daemon.jobs[made.id] = made
    daemon.events[made.id] = training_events(STEPS)
    daemon.log_lines[made.id] = log_lines(9)
    return made.id


def test_a_whole_stream(client: Client, finished: str) -> None:
    events = list(client.metrics(finished))
    assert [event.seq for event in events] == list(range(1, STEPS + 5))
    assert [event.kind.step for event in events if isinstance(event.kind, StepMetrics)] == list(range(1, STEPS + 1))


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK])
def test_cut_at_each_record_without_gap_or_repeat(
    daemon: FakeDaemon, client: Client, finished: str, code: grpc.StatusCode
) -> None:
    daemon.cut_code = code
    total = STEPS + 4
    for record in range(total + 1):
        daemon.cuts.append(record)
        assert [event.seq for event in client.metrics(finished)] == list(range(1, total + 1))


def test_cut_after_every_record(daemon: FakeDaemon, client: Client, finished: str) -> None:
    daemon.cuts.extend([1] * 9)
    assert [line.text for line in client.logs(finished)] == [f"line {n}" for n in range(1, 10)]
    asked = [r.after_seq for r in daemon.requests if isinstance(r, metric_service_pb2.StreamLogsRequest)]
    assert asked == list(range(10))


def test_goes_on_after_a_restart_of_the_daemon(daemon: FakeDaemon, client: Client, finished: str) -> None:
    daemon.jobs[finished].state = job("RUNNING").state
    events = client.metrics(finished)
    seen = [next(events).seq for _ in range(STEPS + 4)]
    daemon.restart()
    daemon.jobs[finished].state = job("SUCCEEDED").state
    seen.extend(event.seq for event in events)
    assert seen == list(range(1, STEPS + 5))


def test_records_that_come_twice_are_given_once(daemon: FakeDaemon, client: Client, finished: str) -> None:
    def overlapping(self: object, request: metric_service_pb2.StreamLogsRequest, context: object) -> Iterator[object]:
        lines = log_lines(6)
        yield metric_service_pb2.StreamLogsResponse(lines=lines[0:4], first_seq=1)
        yield metric_service_pb2.StreamLogsResponse(lines=lines[2:6], first_seq=3)
        yield metric_service_pb2.StreamLogsResponse(end=metric_service_pb2.StreamEnd())

    class Repeating(FakeDaemon):
        StreamLogs = overlapping

    daemon.stop()
    with Repeating(daemon.socket):
        assert [line.seq for line in client.logs(finished)] == [1, 2, 3, 4, 5, 6]


def test_from_a_number_on(client: Client, finished: str) -> None:
    assert [event.seq for event in client.metrics(finished, after_seq=12)] == [13, 14]
    assert list(client.metrics(finished, after_seq=14)) == []


def test_without_following_it_ends_with_what_is_there(daemon: FakeDaemon, client: Client, finished: str) -> None:
    daemon.jobs[finished].state = job("RUNNING").state
    assert len(list(client.metrics(finished, follow=False))) == STEPS + 4


def test_the_tail_of_a_log_survives_a_cut(daemon: FakeDaemon, client: Client, finished: str) -> None:
    daemon.cuts.extend([0, 2])
    assert [line.text for line in client.logs(finished, tail=4)] == ["line 6", "line 7", "line 8", "line 9"]


def test_an_unknown_kind_is_skipped(daemon: FakeDaemon, client: Client, finished: str) -> None:
    # Field 99, a message: what a newer daemon may send.
    stranger = event_pb2.TrainingEvent.FromString(b"\x9a\x06\x00")
    daemon.events[finished].insert(3, stranger)
    assert [event.seq for event in client.metrics(finished)] == [1, 2, 3, *range(5, STEPS + 6)]


def test_an_unknown_job_is_said_at_once(client: Client) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        list(client.metrics("nobody"))


def test_patience_ends(daemon: FakeDaemon, finished: str) -> None:
    daemon.jobs[finished].state = job("RUNNING").state
    with Client(daemon.address, patience=0.2) as client:
        events = client.metrics(finished)
        next(events)
        daemon.stop()
        with pytest.raises(Unavailable) as caught:
            list(events)
    assert caught.value.tried == {daemon.address: "no such socket"}
    daemon.restart()


def test_watch_goes_on_and_ends_with_the_job(daemon: FakeDaemon, client: Client, finished: str) -> None:
    states = [job("QUEUED"), job("RUNNING", step=1), job("RUNNING", step=5), job("SUCCEEDED", step=10)]
    for seen in states[1:]:
        seen.ClearField("spec")
    daemon.watched[finished] = list(states)
    daemon.cuts.extend([1, 2])
    shown = list(client.watch(finished))
    assert [seen.state for seen in shown][-1] is JobState.SUCCEEDED
    assert {seen.state for seen in shown} == {JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED}
    assert all(seen.spec and seen.spec.training.model.path == "/models/smol" for seen in shown)


def test_changes_of_all_jobs_go_on_from_the_last_cursor(daemon: FakeDaemon, client: Client) -> None:
    asked: list[tuple[str, bool]] = []

    def changing(self: object, request: Any, context: Any) -> Iterator[object]:
        asked.append((request.cursor, request.only_new))
        number = int(request.cursor or 0) + 1
        if number == 3:
            # Nothing that was asked for; the cursor moves on.
            yield job_changes_pb2.WatchJobsResponse(cursor="3")
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        changes = [job_changes_pb2.JobChange(cursor=str(number), job=f"job{number}")]
        yield job_changes_pb2.WatchJobsResponse(changes=changes, cursor=str(number), up_to_date=number == 5)
        if number < 5:
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    class Changing(FakeDaemon):
        WatchJobs = changing

    daemon.stop()
    with Changing(daemon.socket):
        changes = list(client.watch_jobs(follow=False, only_new=True))
    assert [change.job for change in changes] == ["job1", "job2", "job4", "job5"]
    assert asked == [("", True), ("1", False), ("2", False), ("3", False), ("4", False)]
    daemon.restart()


def test_a_cursor_that_is_too_old(daemon: FakeDaemon, client: Client) -> None:
    class Forgetful(FakeDaemon):
        def WatchJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
            self._refuse(context, "OUT_OF_RANGE", "CURSOR_TOO_OLD", "changes after 7 are not kept any more")

    daemon.stop()
    with Forgetful(daemon.socket), pytest.raises(CursorTooOld, match="are not kept any more") as caught:
        list(client.watch_jobs(cursor="7"))
    assert "list the jobs" in caught.value.advice
    daemon.restart()
