"""Who may be planned: the time has come, and the jobs before have ended as they must. By values alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.jobs import fake_job

from ftd.eligible import Before, stand
from ftd.job import Job
from ftd.moves import Abandoned, DeadlinePassed
from ftd.records import JobState, ReasonCode
from ftd.spec import Dependency, DependencyCondition, JobSpec

OK, ANY = DependencyCondition.OK, DependencyCondition.ANY
S = JobState
NOW = 100.0


@pytest.fixture
def make(tmp_path: Path) -> Any:
    def job(state: JobState = S.QUEUED, after: tuple[Dependency, ...] = (), **fields: Any) -> Job:
        spec = {name: fields.pop(name) for name in ("not_before", "deadline") if name in fields}
        return fake_job(tmp_path, {}, id="me", state=state, spec=JobSpec(**spec), dependencies=after, **fields)

    return job


def test_a_job_without_conditions_is_ready(make: Any) -> None:
    standing = stand([make(), make(S.RUNNING)], {}, NOW)
    assert [job.state for job in standing.ready] == [S.QUEUED]
    assert (standing.kept, standing.doomed, standing.alarm) == ({}, {}, None)


def test_it_waits_for_its_time_and_says_when_to_look_again(make: Any) -> None:
    standing = stand([make(not_before=160.0, deadline=300.0)], {}, NOW)
    kept = standing.kept["me"]
    assert kept.reason.code is ReasonCode.NOT_BEFORE
    assert kept.reason.message == "is not to start before 1970-01-01T00:02:40Z"
    assert standing.alarm == 160.0
    # The clock was set back: it waits on, by the clock as it is.
    assert stand([make(not_before=160.0)], {}, -5000.0).alarm == 160.0
    assert stand([make(not_before=160.0, deadline=300.0)], {}, 160.0).alarm == 300.0


@pytest.mark.parametrize(
    ("condition", "state", "outcome"),
    [
        (OK, S.RUNNING, "kept"),
        (OK, S.PAUSED, "kept"),
        (OK, S.SUCCEEDED, "ready"),
        (OK, S.FAILED, "doomed"),
        (OK, S.CANCELLED, "doomed"),
        (OK, None, "doomed"),
        (ANY, S.STOPPING, "kept"),
        (ANY, S.FAILED, "ready"),
        (ANY, S.CANCELLED, "ready"),
        # Only what has ended can be deleted.
        (ANY, None, "ready"),
    ],
)
def test_a_dependency_decides(make: Any, condition: DependencyCondition, state: JobState | None, outcome: str) -> None:
    before = {} if state is None else {"first": Before("data", state)}
    standing = stand([make(after=(Dependency("first", condition),))], before, NOW)
    found = "ready" if standing.ready else "kept" if standing.kept else "doomed"
    assert found == outcome
    if outcome == "kept":
        assert standing.kept["me"].waits_for == ("first",)
        assert standing.kept["me"].reason.code is ReasonCode.WAITING_FOR_JOBS


@pytest.mark.parametrize("state", [S.PREPARING, S.QUEUED, S.PAUSED])
def test_whoever_has_not_started_is_abandoned(make: Any, state: JobState) -> None:
    standing = stand([make(state, (Dependency("first", OK),))], {"first": Before("data", S.FAILED)}, NOW)
    assert standing.doomed == {"me": Abandoned("job first (data), which it comes after, has failed")}


@pytest.mark.parametrize("state", [S.PREPARING, S.QUEUED, S.STARTING, S.RUNNING, S.PAUSED])
def test_a_deadline_ends_it_in_any_state(make: Any, state: JobState) -> None:
    assert stand([make(state, deadline=NOW)], {}, NOW).doomed == {"me": DeadlinePassed()}
    assert stand([make(state, deadline=NOW + 1)], {}, NOW).doomed == {}


@pytest.mark.parametrize(
    ("goal", "told"), [(S.QUEUED, True), (S.PAUSED, True), (S.CANCELLED, False), (S.FAILED, False)]
)
def test_a_job_on_its_way_out_is_told_only_what_changes_that(make: Any, goal: JobState, told: bool) -> None:
    standing = stand([make(S.STOPPING, deadline=NOW, stop_goal=goal)], {}, NOW)
    assert bool(standing.doomed) is told
    # What has passed rings no alarm, or the cycle would never rest.
    assert standing.alarm is None
