"""The door for jobs, whole: what `ftd.intake` says of the spec, and what other jobs and the project's quota say to it.

Every problem is told at once. A job only ever comes after jobs that were there before it, so there is never a circle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from ftd.chains import Chains
from ftd.datasets import Data
from ftd.draft import draft
from ftd.errors import InvalidRequest, InvalidSpec, JobAmbiguous, JobNotFound, Violation
from ftd.intake import Accepted, Intake
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.origins import Taken, strange_checkpoint
from ftd.queue import Queue
from ftd.records import JobState
from ftd.rundir import RunDirectories
from ftd.sources import Sent
from ftd.spec import Dependency, DependencyCondition, DeviceKind, JobSpec
from ftd.tracking import TrackerPolicy
from ftsched.model import Device, Quota

# The data sets that sources name, as far as there are any, by those names.
FindSent = Callable[[Data], Awaitable[Mapping[str, Sent]]]


class Admission:
    """Makes jobs of specs, or refuses them. Stores nothing."""

    def __init__(
        self,
        queue: Queue,
        intake: Intake,
        runs: RunDirectories,
        quotas: Mapping[str, Quota],
        trackers: TrackerPolicy,
        sent: FindSent,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._intake = intake
        self._runs = runs
        self._chains = Chains(queue, runs)
        self._quotas = quotas
        self._trackers = trackers
        self._sent = sent
        self._clock = clock

    async def admit(self, spec: JobSpec, devices: Sequence[Device], request_id: str = "") -> Job:
        """The job the spec makes. Raises InvalidSpec."""
        now = self._clock()
        dependencies, problems = await self._dependencies(spec)
        problems += _too_late(spec, now)
        taken = await self._chains.follow(spec.training, spec.name)
        problems += await asyncio.to_thread(list, self._trackers.check(spec.trackers))
        sent = await self._sent(spec.training.data)
        try:
            accepted = await asyncio.to_thread(self._intake.accept, spec, devices, taken, sent)
        except InvalidSpec as error:
            if not problems:
                raise
            raise InvalidSpec([*problems, *error.violations]) from None
        problems += _other_training(accepted, taken)
        problems += beyond_quota(accepted, self._quotas.get(accepted.project, Quota()))
        if problems:
            raise InvalidSpec(problems)
        return draft(spec, accepted, self._runs, now, joined(dependencies, taken.dependencies), request_id)

    async def _dependencies(self, spec: JobSpec) -> tuple[tuple[Dependency, ...], list[Violation]]:
        """The jobs it comes after, by id, and what is wrong with them."""
        found: list[Dependency] = []
        problems: list[Violation] = []
        for index, each in enumerate(spec.after):
            condition = each.condition or DependencyCondition.OK
            try:
                first = await self._queue.find(each.job)
                found.append(Dependency(first.id, condition))
                problem = _never(first, condition)
            except JobNotFound as error:
                problem = _itself(spec, each.job) or f"{error}; accepted is a job that was submitted before this one"
            except JobAmbiguous as error:
                problem = str(error)
            except InvalidRequest:
                # An empty name, which has its violation already.
                continue
            if not problem and found.count(found[-1]) > 1:
                problem = f"names job {found[-1].job} again; accepted is each job once"
            if problem:
                problems.append(Violation(f"after[{index}].job", problem))
        return tuple(found), problems


def _never(first: Job, condition: DependencyCondition) -> str:
    """Why waiting for the job would never end well."""
    if condition is DependencyCondition.ANY or first.state not in TERMINAL - {JobState.SUCCEEDED}:
        return ""
    how = "failed" if first.state is JobState.FAILED else "been cancelled"
    return f"is job {first.id}, which has {how}; retry that one first, or set condition to any"


def joined(asked: Sequence[Dependency], taken: Sequence[Dependency]) -> tuple[Dependency, ...]:
    """The jobs that a new one comes after: each once, and what it takes from must have succeeded whatever was asked."""
    must = {each.job for each in taken if each.condition is DependencyCondition.OK}
    kept = [each for each in asked if each.job not in must]
    known = {each.job for each in kept}
    return (*kept, *(each for each in taken if each.job not in known))


def _other_training(accepted: Accepted, taken: Taken) -> Iterator[Violation]:
    """What the checkpoint that it is to go on from cannot be gone on with."""
    origin = taken.origins.get("resume.from_job")
    if origin is not None:
        for field, text in strange_checkpoint(accepted.resolved, origin.job.resolved):
            yield Violation(f"training.{field}", f"{text}; accepted is the same")


def _itself(spec: JobSpec, name: str) -> str:
    return "is the job itself; accepted is another one" if name == spec.name else ""


def _too_late(spec: JobSpec, now: float) -> Iterator[Violation]:
    if spec.deadline is not None and spec.deadline <= now:
        yield Violation("deadline", "has passed already; accepted is a time to come")


def beyond_quota(accepted: Accepted, quota: Quota) -> Iterator[Violation]:
    """What the job asks for that its project may never hold, however long it waits. Pure."""
    resources = accepted.resolved.resources
    project = f"project {accepted.project}"
    for name, limit in (("running", quota.running), ("queued", quota.queued)):
        if limit == 0:
            yield Violation("project", f"is {accepted.project}, whose quota is 0 {name} jobs; accepted is another one")
    if resources.device is not DeviceKind.GPU:
        return
    gpus = resources.gpus or 1
    if quota.devices is not None and gpus > quota.devices:
        accept = f"1 to {quota.devices}" if quota.devices else "another project"
        text = f"is {gpus}, but {project} may hold {quota.devices} GPUs at once; accepted is {accept}"
        yield Violation("training.resources.gpus", text)
    memory = gpus * accepted.estimate.reserve_bytes
    if quota.memory_bytes is not None and memory > quota.memory_bytes:
        has = f"{project} may hold {quota.memory_bytes / 2**30:.1f} GiB at once"
        needs = f"needs {memory / 2**30:.1f} GiB of GPU memory in all, but {has}"
        yield Violation("training.resources", f"{needs}; accepted is what needs less, or another project")
