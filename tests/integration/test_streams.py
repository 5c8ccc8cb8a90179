"""Streams of a real daemon: the past and the live in one call, for late, slow and many readers."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.v1 import job_pb2, metric_service_pb2


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), limits={"streams": 8}) as daemon:
        yield daemon


def resident_bytes(daemon: Daemon) -> int:
    assert daemon.process is not None
    return int(Path(f"/proc/{daemon.process.pid}/statm").read_text().split()[1]) * 4096


def test_late_readers_get_the_same_from_any_place(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 1000})
    live = daemon.events(job)
    late = list(daemon.stream(job))
    assert [event for message in late for event in message.events] == live
    assert max(len(message.events) for message in late) == 256
    seqs = [message.first_seq for message in late if message.events]
    assert seqs == [1 + sum(len(message.events) for message in late[:n]) for n in range(len(seqs))]
    for after in (1, 255, 256, 257, 700, len(live) - 1, len(live)):
        assert daemon.events(job, after) == live[after:]


def test_records_carry_their_checksums(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 10})
    daemon.wait(job, "SUCCEEDED")
    for message in daemon.stream(job):
        assert len(message.crc32) == len(message.events)
        for event, crc in zip(message.events, message.crc32, strict=True):
            assert zlib.crc32(event.SerializeToString()) == crc


def test_a_stream_ends_with_the_state_and_only_then(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 3, "step_seconds": 0.05})
    messages = list(daemon.stream(job))
    assert [message.HasField("end") for message in messages] == [False] * (len(messages) - 1) + [True]
    assert messages[-1].end.state == job_pb2.JOB_STATE_SUCCEEDED
    assert messages[-1].end.reason.code == job_pb2.REASON_CODE_COMPLETED


def test_without_follow_a_stream_ends_now(daemon: Daemon) -> None:
    job = daemon.submit(hold=True)
    (message,) = daemon.stream(job, no_follow=True)
    assert message.end.state == job_pb2.JOB_STATE_PAUSED


def test_a_live_step_arrives_at_once(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 40, "step_seconds": 0.05})
    delays = [
        message.events[0].time.ToNanoseconds()
        for message in daemon.stream(job)
        if message.events and message.events[0].HasField("step")
    ]
    # Steps come singly or, within the pause of 100 ms, by two or three; never all at the end.
    assert len(delays) >= 10


def test_a_reader_that_does_not_read_delays_nobody_and_costs_little(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 60_000})
    stuck = [daemon.stream(job) for _ in range(4)]
    for stream in stuck:
        next(stream)
    before = resident_bytes(daemon)
    assert daemon.steps(job) == list(range(1, 60_001))
    daemon.wait(job, "SUCCEEDED")
    assert resident_bytes(daemon) - before < 32 * 2**20
    # And when it reads at last, everything is there.
    steps = [event.step.step for message in stuck[0] for event in message.events if event.HasField("step")]
    assert steps[-1] == 60_000
    assert steps == list(range(steps[0], 60_001))
    for stream in stuck:
        stream.cancel()  # type: ignore[attr-defined]


def test_logs_are_streamed_whole_or_from_the_tail(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 20, "print_lines": 2})
    daemon.wait(job, "SUCCEEDED")

    def lines(**fields: int) -> list[str]:
        request = metric_service_pb2.StreamLogsRequest(job=job, **fields)
        return [line.text for message in daemon.metrics.StreamLogs(request) for line in message.lines]

    everything = lines()
    assert [text.rstrip(".") for text in everything][:2] == ["step 1 line 0 ", "step 1 line 1 "]
    assert len(everything) == 40
    assert lines(tail=3) == everything[-3:]
    assert lines(tail=1000) == everything
    assert lines(after_seq=38) == everything[38:]
    code, reason, _ = refusal(lambda: lines(tail=1, after_seq=1))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


def test_a_stream_of_nothing_is_not_found(daemon: Daemon) -> None:
    assert refusal(lambda: list(daemon.stream("nothing")))[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_more_streams_than_the_limit_are_refused_and_places_come_back(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 10_000, "step_seconds": 0.05})
    daemon.wait(job, "RUNNING")
    streams = [daemon.stream(job) for _ in range(8)]
    for stream in streams:
        next(stream)
    code, reason, message = refusal(lambda: next(daemon.stream(job)))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH")
    assert "8 streams are open" in message
    for stream in streams:
        stream.cancel()  # type: ignore[attr-defined]

    def free() -> bool:
        try:
            daemon.stream(job, no_follow=True).__next__()
        except grpc.RpcError:
            return False
        return True

    eventually(free)


def test_many_readers_of_one_job_see_the_same(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 200, "step_seconds": 0.005})
    seen: list[list[int]] = []
    readers = [threading.Thread(target=lambda: seen.append(daemon.steps(job))) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(timeout=60)
    assert seen == [list(range(1, 201))] * 6
