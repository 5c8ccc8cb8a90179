"""A new job as it is before anybody has stored it: what a submit stores, and what a rehearsal tries."""

from __future__ import annotations

import secrets

from ftd.intake import Accepted
from ftd.job import Job
from ftd.origins import jobs_in
from ftd.records import JobState, Reason, ReasonCode, Transition
from ftd.rundir import RunDirectories
from ftd.spec import Dependency, JobSpec

DEFAULT_MAX_RETRIES = 2
# Without look-alikes (i, l, o, 0, 1): ids are read aloud and typed.
_LETTERS = "abcdefghjkmnpqrstuvwxyz"
_DIGITS = "23456789"
_ID_LENGTH = 10


def draft(
    spec: JobSpec,
    accepted: Accepted,
    runs: RunDirectories,
    now: float,
    dependencies: tuple[Dependency, ...] = (),
    request_id: str = "",
) -> Job:
    """The job that a spec makes; `dependencies` are the spec's with the id of each job."""
    job_id = new_id()
    taken = sorted({job for _, job in jobs_in(accepted.resolved)})
    once = f" once {' and '.join(taken)} has left what it takes" if taken else ""
    state, reason = JobState.PREPARING, Reason(ReasonCode.SUBMITTED, f"its data is to be prepared{once}")
    if spec.hold:
        state, reason = JobState.PAUSED, Reason(ReasonCode.HELD, "held as submitted; resume it to queue it")
    return Job(
        id=job_id,
        request_id=request_id,
        spec=spec,
        resolved=accepted.resolved,
        name=accepted.name,
        project=accepted.project,
        priority=spec.priority or 0,
        max_retries=DEFAULT_MAX_RETRIES if spec.max_retries is None else spec.max_retries,
        state=state,
        reason=reason,
        create_time=now,
        update_time=now,
        labels=spec.labels,
        annotations=spec.annotations,
        dependencies=dependencies,
        estimate=accepted.estimate,
        transitions=(Transition(now, None, state, "client", reason),),
        output_path=accepted.resolved.output.path or str(runs.get(job_id).output_path),
    )


def new_id() -> str:
    """An id that no job has: 10 random characters, a letter first."""
    letters = _LETTERS + _DIGITS
    return secrets.choice(_LETTERS) + "".join(secrets.choice(letters) for _ in range(_ID_LENGTH - 1))
