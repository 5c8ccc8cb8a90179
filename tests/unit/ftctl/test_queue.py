"""How the queue answers: each screen whole, in a pipe and on terminals, and the commands that change it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support import queue
from tests.support.client import job
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_pb2, job_service_pb2

Matches = Callable[..., None]
Widen = Callable[[int], None]

SPEC = "model: {path: /m}\ndata: {train: [/a.jsonl]}\nlora: {rank: 8}\n"
SCREENS = {
    "queue": ["queue"],
    "queue-wide": ["queue", "-o", "wide"],
    "gpus": ["gpus"],
    "explain": ["explain", "dpo-1"],
    "quota": ["quota"],
    "plan-waits": ["plan", "-f", "job.yaml"],
    "describe-waits": ["describe", "dpo-1"],
}


@pytest.fixture
def busy(daemon: FakeDaemon) -> FakeDaemon:
    """A host on which a job waits that ran out of memory before, and two more."""
    daemon.host, daemon.queued, daemon.projects = queue.host(), queue.queued(), queue.projects()
    daemon.explanation, daemon.plan = queue.explanation(), queue.plan()
    waiting = queue.eased(job("QUEUED"))
    waiting.id, waiting.name, waiting.priority, waiting.front = "w2abcdefgh", "dpo-1", 10, True
    waiting.ClearField("progress")
    waiting.reason.message = daemon.queued[0].reason.message
    waiting.dependencies.add(job="k7m2p9x4qd", condition=job_pb2.DEPENDENCY_CONDITION_ANY)
    waiting.spec.deadline.FromJsonString("2027-01-31T18:00:00Z")
    waiting.spec.probe, waiting.spec.preemptible = job_pb2.PROBE_ALWAYS, False
    daemon.jobs = {waiting.id: waiting, "k7m2p9x4qd": job("RUNNING")}
    Path("job.yaml").write_text(SPEC)
    return daemon


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("name", SCREENS)
def test_in_a_pipe(matches: Matches, name: str) -> None:
    matches(name, *SCREENS[name])


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", SCREENS)
def test_on_a_terminal(matches: Matches, on_terminal: Widen, name: str, width: int) -> None:
    on_terminal(width)
    matches(f"{name}-{width}", *SCREENS[name])


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("hold", ["hold", "dpo-1"]),
        ("hold-running", ["hold", "dpo-1", "k7m2"]),
        ("release", ["release", "dpo-1"]),
        ("priority", ["priority", "dpo-1", "-7"]),
        ("front", ["front", "k7m2"]),
        ("front-no", ["front", "dpo-1", "--no"]),
        ("quarantine", ["quarantine", "1", "--reason", "it smells of smoke"]),
        ("quarantine-unknown", ["quarantine", "GPU 7", "--reason", "it smells of smoke"]),
        ("release-gpu", ["release-gpu", queue.GPUS[2]]),
    ],
)
@pytest.mark.usefixtures("busy")
def test_changes(matches: Matches, name: str, args: list[str]) -> None:
    matches(name, *args)


@pytest.mark.parametrize("command", ["explain dpo-1", "queue", "quota", "gpus", "plan -f job.yaml"])
@pytest.mark.usefixtures("busy")
def test_for_programs(ftctl: Run, command: str) -> None:
    done = ftctl(*command.split(), "-o", "json")
    assert done.code == 0
    assert done.out[0] in "{["
    assert "\n  " in ftctl(*command.split(), "-o", "yaml").out


def test_what_a_process_takes_is_not_compared_with_an_estimate_of_tensors(busy: FakeDaemon, ftctl: Run) -> None:
    assert "12% under the estimate, 79% of what is reserved" in ftctl("explain", "dpo-1").out
    for attempt in busy.jobs["w2abcdefgh"].attempts:
        attempt.devices[:] = ["cpu"]
    assert "24.8 GiB  79% of what is reserved" in ftctl("explain", "dpo-1").out


def test_a_queue_without_jobs(daemon: FakeDaemon, ftctl: Run) -> None:
    done = ftctl("queue")
    assert (done.out, done.err) == ("", "no job waits\n")


def test_a_plan_that_no_device_could_hold(busy: FakeDaemon, matches: Matches) -> None:
    busy.plan = queue.too_large()
    matches("plan-too-large", "plan", "-f", "job.yaml")
    fix = busy.plan.fixes[1].changes
    args = [part for path, value in sorted(fix.items()) for part in ("--set", f"{path}={value}")]
    busy.plan = queue.plan()
    matches("plan-fixed", "plan", "-f", "job.yaml", *args)
    assert busy.requests[-2].spec.training.WhichOneof("method") == "qlora"  # type: ignore[attr-defined]


def test_a_submit_that_is_refused_for_its_size_shows_what_would_fit(busy: FakeDaemon, matches: Matches) -> None:
    busy.plan = queue.too_large()
    violation = job_service_pb2.Violation(field="training.resources", description=busy.plan.wait_reason.message)
    busy.violations = [violation]
    matches("submit-too-large", "submit", "-f", "job.yaml")


def test_what_a_submit_says_of_when_it_runs(busy: FakeDaemon, ftctl: Run) -> None:
    before = datetime.now(UTC)
    args = ["--after", "k7m2", "--after", "@last:any", "--priority", "-3", "--hold", "--not-before", "in 2h"]
    assert ftctl("submit", "-f", "job.yaml", *args, "--deadline", "2027-01-31T18:00:00Z").code == 0
    spec = next(iter(busy.jobs.values())).spec
    assert [(each.job, each.condition) for each in spec.after] == [("k7m2", 0), ("w2abcdefgh", 2)]
    assert (spec.priority, spec.hold, spec.deadline.ToJsonString()) == (-3, True, "2027-01-31T18:00:00Z")
    assert timedelta(hours=2) <= spec.not_before.ToDatetime(UTC) - before < timedelta(hours=2, minutes=1)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--after", "a:maybe"], "--after a:maybe: expected JOB or JOB:ok, JOB:any"),
        (["--after", ":any"], "--after :any: expected JOB"),
        (["--deadline", "2h"], "--deadline: '2h' is not a time; accepted: in 2h or +2h from now"),
        (["--not-before", "2027-01-31T18:00:00"], "--not-before: 2027-01-31 18:00:00 does not say which time zone"),
        (["--priority", "101"], "less than or equal to 100"),
    ],
)
@pytest.mark.usefixtures("busy")
def test_what_a_submit_cannot_mean(ftctl: Run, args: list[str], complaint: str) -> None:
    done = ftctl("submit", "-f", "job.yaml", *args)
    assert done.code == 2
    assert complaint in done.err
