"""Chains of jobs: finds the jobs that a spec takes weights or a checkpoint from, and what comes of it for the new one.

It comes after them, it needs what they left until it has ended itself, and its model is described by their models. It
must never start or change a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from ftd.errors import InvalidRequest, JobAmbiguous, JobNotFound, Violation
from ftd.job import Job
from ftd.origins import Kind, Origin, Taken, jobs_in, misfit, output_kind, strange_bases, take, takes_checkpoint
from ftd.queue import Queue
from ftd.records import JobState
from ftd.rundir import RunDirectories
from ftd.spec import Dependency, DependencyCondition, TrainingSpec


class Chains:
    """Follows the jobs that specs name."""

    def __init__(self, queue: Queue, runs: RunDirectories) -> None:
        self._queue = queue
        self._runs = runs

    async def follow(self, training: TrainingSpec, name: str | None) -> Taken:
        """The training with its origins; `name` is the new job's own."""
        origins: dict[str, Origin] = {}
        problems: list[Violation] = []
        for place, text in jobs_in(training):
            try:
                job = await self._queue.find(text)
            except (JobNotFound, JobAmbiguous, InvalidRequest) as error:
                problem = "is the job itself; accepted is another one" if text == name else f"{error}"
            else:
                origins[place] = Origin(job, await self._base(job))
                problem = misfit(training, place, origins[place])
            if problem:
                problems.append(Violation(f"training.{place}", problem))
        if problems or not origins:
            return Taken(training, origins, problems=tuple(problems))
        origins, found = await asyncio.to_thread(self._with_checkpoints, training, origins)
        taken = take(training, origins)
        problems = [Violation(f"training.{place}", text) for place, text in (*strange_bases(taken, origins), *found)]
        dependencies = _dependencies(training, origins)
        return Taken(taken, origins, dependencies, tuple(problems), *await self._description(taken, origins))

    async def _base(self, job: Job) -> Job | None:
        """The job whose output the job's model is."""
        for dependency in job.dependencies:
            try:
                before = await self._queue.get(dependency.job)
            except JobNotFound:
                continue
            if before.output_path == job.resolved.model.path:
                return before
        return None

    async def _description(self, taken: TrainingSpec, origins: Mapping[str, Origin]) -> tuple[str, bool]:
        """The folder that tells what the model will be, empty for its own; whether a chat template comes with it."""
        makers = [o.job for o in origins.values()] + [o.base for o in origins.values() if o.base]
        template = any(job.resolved.data.chat_template_path or job.resolved.data.template for job in makers)
        path = taken.model.path
        job = next((job for job in makers if job.output_path == path), None)
        while job is not None and job.state is not JobState.SUCCEEDED:
            path, job = job.resolved.model.path, await self._base(job)
        return (path or "") if path != taken.model.path else "", template

    def _with_checkpoints(
        self, training: TrainingSpec, origins: Mapping[str, Origin]
    ) -> tuple[dict[str, Origin], list[tuple[str, str]]]:
        """The origins with the folder of each checkpoint that is taken, and what is wrong with those. Reads folders."""
        found, problems = dict(origins), list[tuple[str, str]]()
        for place, origin in origins.items():
            if not takes_checkpoint(training, place):
                continue
            field = place.removesuffix(".from_job")
            wanted = getattr(training, field).checkpoint
            run = self._runs.get(origin.job.id)
            names = [artifact.name for artifact in run.artifacts() if artifact.name.startswith("checkpoint-")]
            name = wanted or next(iter(names), "")
            if name in names:
                found[place] = replace(origin, checkpoint=str(run.path / "checkpoints" / name))
                continue
            has = f"it has {', '.join(names)}" if names else "it has none"
            where, text = (f"{field}.checkpoint", f"is {name}") if wanted else (place, "left none")
            problems.append((where, f"{text}, which is no complete checkpoint of job {origin.job.id}; {has}"))
        return found, problems


def _dependencies(training: TrainingSpec, origins: Mapping[str, Origin]) -> tuple[Dependency, ...]:
    """The jobs that must have ended before, and whose outputs must stay: each once, the stricter way."""
    found: dict[str, DependencyCondition] = {}
    for place, origin in origins.items():
        ok = not takes_checkpoint(training, place)
        found[origin.job.id] = DependencyCondition.OK if ok else found.get(origin.job.id, DependencyCondition.ANY)
        if origin.base and output_kind(origin.job.resolved) is not Kind.MODEL:
            found[origin.base.id] = DependencyCondition.OK
    return tuple(Dependency(job, condition) for job, condition in found.items())
