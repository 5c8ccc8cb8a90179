"""The first blocked job gets its devices in the end, however many small jobs come after it."""

from __future__ import annotations

from dataclasses import replace

from tests.support.fleet import cpu, decide, gib, gpu, holds, job, starts

from ftsched.model import Ask, Holding, WaitCode


def test_no_later_job_takes_what_the_first_blocked_one_waits_for() -> None:
    decision = decide([gpu(0)], [job("large", 60, front=True), job("small", 25)], [holds("running", 0, size=30)])
    large, small = decision.waits
    assert starts(decision) == {}
    assert large.waits_for == ("running",)
    assert small.code is WaitCode.BEHIND_OTHER_JOBS
    assert small.message == (
        "needs 25.0 GiB on 1 GPU; best is GPU 0 with 50.0 GiB free, 30.0 GiB promised to job running, "
        "kept for job large, which goes first"
    )
    assert small.waits_for == ("large",)


def test_later_jobs_use_the_devices_it_does_not_wait_for() -> None:
    devices = [gpu(0), gpu(1), gpu(2, total=24)]
    holding = [holds("long", 0, size=70), holds("short", 1, size=40)]
    decision = decide(devices, [job("large", 60, front=True), job("b", 10, age=2), job("c", 10, age=1)], holding)
    assert decision.waits[0].waits_for == ("short",)
    assert starts(decision) == {"b": ("GPU-2",), "c": ("GPU-0",)}


def test_a_gang_drains_as_many_devices_as_it_needs() -> None:
    devices = [gpu(i, jobs=1) for i in range(3)]
    decision = decide(devices, [job("gang", 60, devices=2, front=True), job("one", 30)], [holds("x", 0, size=60)])
    assert starts(decision) == {"gang": ("GPU-1", "GPU-2")}
    decision = decide(
        devices,
        [job("gang", 60, devices=2, front=True), job("one", 30)],
        [holds("x", 0, size=60), holds("y", 1, size=60)],
    )
    assert starts(decision) == {}
    assert decision.waits[0].waits_for == ("x",)
    assert decision.waits[1].code is WaitCode.BEHIND_OTHER_JOBS


def test_jobs_shorter_than_a_minute_do_not_pass_either() -> None:
    devices = [gpu(0, jobs=1), gpu(1, jobs=1)]
    running = replace(holds("running", 0, size=30), run_seconds=15.0)
    gang = replace(job("gang", 30, devices=2, front=True), run_seconds=300.0)
    in_time, too_long = (replace(job(name, 30), run_seconds=seconds) for name, seconds in (("a", 14.0), ("b", 30.0)))
    assert starts(decide(devices, [gang, in_time], [running])) == {"a": ("GPU-1",)}
    assert starts(decide(devices, [gang, too_long], [running])) == {}


def test_devices_of_another_kind_go_on() -> None:
    decision = decide(
        [gpu(0), cpu()], [job("large", 60, age=9), job("tiny", 1, on="cpu")], [holds("running", 0, size=30)]
    )
    assert starts(decision) == {"tiny": ("cpu",)}


def test_an_endless_stream_of_small_jobs_does_not_starve_a_large_one() -> None:
    """Every round brings a small job for each device, each small job runs three rounds."""
    devices = [gpu(0), gpu(1)]
    ends: dict[str, int] = {}
    running: list[Holding] = []
    queue = [job("large", 70, devices=2, front=True)]
    queue += [job(f"first{i}", 30, age=1) for i in range(4)]
    for round_ in range(10):
        running = [held for held in running if ends[held.job] > round_]
        decision = decide(devices, queue, running)
        if "large" in starts(decision):
            return
        for started in decision.starts:
            ends[started.job] = round_ + 3
            running.append(Holding(started.job, started.devices, Ask("gpu", len(started.devices), gib(30))))
        placed = set(starts(decision))
        queue = [each for each in queue if each.job not in placed]
        queue += [job(f"small{round_}.{i}", 30, age=-1 - round_) for i in range(2)]
    raise AssertionError("the large job never started")
