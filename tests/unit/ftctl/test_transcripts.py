"""What each command prints, whole: see golden/."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support import queue
from tests.support.client import START, job, log_lines, training_events

from finetuned.v1 import artifact_service_pb2, job_pb2, job_service_pb2

Matches = Callable[..., None]

SPEC = "name: demo\nmodel:\n  path: /models/smol\ndata:\n  train:\n    - path: a.jsonl\nbatch:\n  global_batch: 7\n"
BAD = SPEC + "lora: {rnak: 8}\nseed: x\n"
# So long ago that the hour does not change while a test runs.
DAYS = 3 * 86400 + 1800


@pytest.fixture
def jobs(daemon: FakeDaemon) -> FakeDaemon:
    """A running job, one that waits and one that failed."""
    running = job("RUNNING")
    waiting = job_pb2.Job(id="w2abcdefgh", name="dpo-1", project="default", state=job_pb2.JOB_STATE_QUEUED)
    waiting.reason.code = job_pb2.REASON_CODE_NOT_ENOUGH_FREE_MEMORY
    waiting.reason.message = "asks 24.0 GiB, gpu 0 has 18.2 GiB free"
    failed = job("FAILED", step=3)
    failed.id, failed.name = "f5nopqrstu", "big-one"
    failed.failure.failure_class, failed.failure.rank = 1, 0
    failed.failure.message = "out of GPU memory at step 3: 23.1 of 24.0 GiB in use"
    failed.failure.advice = "halve batch.micro_batch, or shorten data.max_length"
    failed.reason.message = failed.failure.message
    failed.end_time.seconds = START + 70
    for made in (running, waiting, failed):
        made.create_time.seconds = int(time.time()) - DAYS
        daemon.jobs[made.id] = made
    daemon.events[running.id] = training_events(10)
    daemon.log_lines[running.id] = log_lines(3)
    daemon.log_lines[failed.id] = log_lines(2)
    return daemon


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("get", ["get"]),
        ("get-wide", ["get", "jobs", "-o", "wide"]),
        ("get-name", ["get", "-q"]),
        ("get-state", ["get", "jobs", "--state", "queued", "-o", "name"]),
        ("get-one", ["get", "dpo-1"]),
        ("get-last", ["get", "job", "@last", "-q"]),
        ("get-unknown", ["get", "job", "nobody"]),
        ("logs", ["logs", "k7m2", "--timestamps"]),
        ("logs-tail", ["logs", "k7m2", "--tail", "2"]),
        ("logs-rank", ["logs", "k7m2", "--rank", "1"]),
        ("metrics", ["metrics", "k7m2"]),
        ("metrics-some", ["metrics", "k7m2", "-m", "loss,eval_loss"]),
        ("metrics-csv", ["metrics", "k7m2", "-o", "csv"]),
        ("metrics-csv-some", ["metrics", "k7m2", "-o", "csv", "-m", "step,grad_norm"]),
        ("metrics-jsonl", ["metrics", "k7m2", "-o", "jsonl"]),
        ("wait-failed", ["wait", "big-one"]),
        ("wait-unknown", ["wait", "nobody"]),
        ("cancel", ["cancel", "k7m2", "w2ab"]),
        ("cancel-finished", ["cancel", "big-one"]),
        ("delete", ["delete", "big-one"]),
        ("watch-failed", ["watch", "big-one", "--exit-status"]),
    ],
)
def test_jobs(jobs: FakeDaemon, matches: Matches, name: str, args: list[str]) -> None:
    matches(name, *args)


@pytest.mark.parametrize("form", ["json", "yaml", "csv", "jsonl"])
def test_a_list_for_programs(daemon: FakeDaemon, matches: Matches, form: str) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    matches(f"get-{form}", "get", "-o", form)


def test_describe(daemon: FakeDaemon, matches: Matches) -> None:
    made = job("SUCCEEDED", step=10, output_path="/runs/k7m2p9x4qd/output", run_directory="/runs/k7m2p9x4qd")
    made.end_time.seconds = START + 90
    for number, state in enumerate(("PREPARING", "QUEUED", "RUNNING", "SUCCEEDED")):
        move = made.transitions.add(to_state=job_pb2.JobState.Value(f"JOB_STATE_{state}"), actor="daemon")
        move.time.seconds = START + number
        move.reason.message = f"because {number}"
    attempt = made.attempts.add(number=1, devices=["gpu-0"], outcome=1, checkpoint="checkpoint-10")
    attempt.start_time.seconds, attempt.end_time.seconds = START, START + 90
    made.estimate.terms.add(name="weights", bytes=269_000_000, note="bf16")
    made.estimate.uncertainty, made.estimate.peak_moment = 0.2, "loss"
    made.data.train.rows, made.data.train.tokens = 64, 8192
    made.data.sources.add(path="/data/a.jsonl", rows_used=64, rows_dropped=1)
    made.resolved.model.path = "/models/smol"
    made.resolved.lora.rank = 8
    made.resolved.seed = 42
    daemon.jobs[made.id] = made
    daemon.artifacts.append(
        artifact_service_pb2.Artifact(kind=1, name="output", path=made.output_path, step=10, bytes=1_000_000)
    )
    matches("describe", "describe", "support-v3")


def test_watch_in_a_pipe(daemon: FakeDaemon, matches: Matches, monkeypatch: pytest.MonkeyPatch) -> None:
    made = job("SUCCEEDED", step=10, output_path="/runs/k7m2p9x4qd/output")
    made.end_time.seconds = START + 90
    daemon.jobs[made.id] = made
    matches("watch", "watch", "@last", "--exit-status")


@pytest.mark.parametrize("command", ["doctor", "version"])
def test_the_host(daemon: FakeDaemon, matches: Matches, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version", "3.11.0 (fixed)")
    daemon.host, daemon.queued = queue.host(), queue.queued()
    matches(command, command)


@pytest.fixture
def planned(daemon: FakeDaemon) -> FakeDaemon:
    daemon.plan.estimate.CopyFrom(job().estimate)
    daemon.plan.estimate.terms.add(name="weights", bytes=269_000_000, note="bf16")
    daemon.plan.devices.append("GPU-1")
    daemon.plan.resolved.seed = 42
    return daemon


VIOLATIONS = [
    job_service_pb2.Violation(
        field="training.batch.global_batch", description="7 is not a multiple of micro_batch 2; accepted: 2, 4, 6, …"
    ),
    job_service_pb2.Violation(field="training.seed", description="is missing"),
]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("validate", ["validate", "-f", "job.yaml"]),
        ("plan", ["plan", "-f", "job.yaml"]),
        ("plan-yaml", ["plan", "-f", "job.yaml", "-o", "yaml"]),
        ("submit-dry-run", ["submit", "-f", "job.yaml", "--dry-run"]),
        ("submit", ["submit", "-f", "job.yaml", "--label", "team=cx", "--name", "other"]),
        ("submit-quiet", ["submit", "-f", "job.yaml", "-q"]),
        ("submit-bad-label", ["submit", "-f", "job.yaml", "--label", "team"]),
        ("validate-no-file", ["validate", "-f", "none.yaml"]),
    ],
)
def test_a_spec(planned: FakeDaemon, matches: Matches, name: str, args: list[str]) -> None:
    Path("job.yaml").write_text(SPEC)
    matches(name, *args)


@pytest.mark.parametrize("command", ["validate", "plan", "submit"])
def test_problems_of_the_daemon(daemon: FakeDaemon, matches: Matches, command: str) -> None:
    Path("job.yaml").write_text(SPEC)
    daemon.violations = VIOLATIONS
    matches(f"{command}-violations", command, "-f", "job.yaml")


@pytest.mark.parametrize("command", ["validate", "plan", "submit"])
def test_problems_of_both_are_shown_together(daemon: FakeDaemon, matches: Matches, command: str) -> None:
    Path("job.yaml").write_text(BAD)
    daemon.violations = VIOLATIONS
    matches(f"{command}-problems", command, "-f", "job.yaml", "--set", "data.train.7.path=b.jsonl")


def test_problems_of_the_file_without_a_daemon(daemon: FakeDaemon, matches: Matches) -> None:
    Path("job.yaml").write_text(BAD)
    daemon.stop()
    matches("submit-no-daemon", "submit", "-f", "job.yaml")


def test_not_yaml(daemon: FakeDaemon, matches: Matches) -> None:
    Path("job.yaml").write_text("model:\n\tpath: x\n")
    matches("submit-tab", "submit", "-f", "job.yaml")


def test_a_key_that_was_used_before(daemon: FakeDaemon, matches: Matches) -> None:
    Path("job.yaml").write_text(SPEC)
    matches("submit-key", "submit", "-f", "job.yaml", "--request-id", "run-17")
    matches("submit-key-again", "submit", "-f", "job.yaml", "--request-id", "run-17", "--set", "seed=7")


def test_nobody_there(daemon: FakeDaemon, matches: Matches) -> None:
    daemon.stop()
    matches("no-daemon", "get", "jobs")
