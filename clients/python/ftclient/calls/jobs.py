"""The calls that make, read and change jobs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

from finetuned.v1 import job_service_pb2, job_service_pb2_grpc
from ftclient.calls.base import Caller, Spec, reference, state_numbers, to_spec
from ftclient.enums import JobState
from ftclient.results import Explanation, Job, Plan
from ftclient.transport import Method
from ftclient.wire import read

# Jobs asked for at once while a list is read.
PAGE = 100

_pb = job_service_pb2


def _method(name: str) -> Method:
    return Method(job_service_pb2_grpc.JobServiceStub, name)


class JobCalls(Caller):
    """JobService, but for what is followed. A submit carries a request_id: repeated, it cannot make two jobs."""

    async def submit(
        self,
        spec: Spec,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        hold: bool | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Queues a job; when this returns it is on the daemon's disk.

        `spec` is a JobSpec (see `load_spec`) or a mapping with the fields of a spec file. `name` takes the place of
        the spec's, `labels` are added to its. Give a `request_id` made from your own run's id and a repeated submit
        returns the same job. Raises InvalidSpec, SpecFileError, AlreadyExists, LimitReached.
        """
        message = to_spec(spec)
        if name is not None:
            message.name = name
        message.labels.update(labels or {})
        if hold is not None:
            message.hold = hold
        key = request_id or uuid.uuid4().hex
        answer = await self._connection.call(
            _method("CreateJob"),
            _pb.CreateJobRequest(spec=message, request_id=key),
            timeout=timeout,
            repeatable=True,
            request_id=key,
        )
        return read(Job, answer.job)

    async def plan(self, spec: Spec, *, timeout: float | None = None) -> Plan:
        """What submitting the spec would do: its problems, or its resolved form, memory, devices. Makes no job."""
        return read(Plan, await self._read(_method("PlanJob"), _pb.PlanJobRequest(spec=to_spec(spec)), timeout))

    async def get(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """The job with everything known of it. Raises NotFound, Ambiguous."""
        return read(Job, (await self._read(_method("GetJob"), _pb.GetJobRequest(job=reference(job)), timeout)).job)

    async def explain(self, job: str | Job, *, timeout: float | None = None) -> Explanation:
        """Why the job is where it is: what each device says to it, what puts it at its place, when it will start."""
        request = _pb.ExplainJobRequest(job=reference(job))
        return read(Explanation, await self._read(_method("ExplainJob"), request, timeout))

    async def list(
        self,
        *,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        selector: str = "",
        project: str = "",
        external_id: str = "",
        page_size: int = PAGE,
        timeout: float | None = None,
    ) -> AsyncGenerator[Job]:
        """Jobs, newest first, fetched page by page as they are consumed. `timeout` is for each page.

        `selector` is over labels, as Kubernetes writes it: "team=cx,stage!=test,size in (s,m),owner,!draft".
        """
        request = _pb.ListJobsRequest(
            page_size=page_size,
            states=state_numbers(states),
            labels=labels or {},
            selector=selector,
            project=project,
            external_id=external_id,
        )
        while True:
            page = await self._read(_method("ListJobs"), request, timeout)
            for job in page.jobs:
                yield read(Job, job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        job: str | Job,
        *,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        front: bool | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Changes the priority, replaces all labels or annotations, or moves it before all others of its priority.

        What is None stays; `edit` changes single labels.
        """
        given = {"priority": priority, "labels": labels, "annotations": annotations, "front": front}
        request = _pb.UpdateJobRequest(
            job=reference(job),
            priority=priority or 0,
            labels=labels or {},
            annotations=annotations or {},
            front=bool(front),
        )
        request.update_mask.paths.extend(name for name, value in given.items() if value is not None)
        return await self._change("UpdateJob", request, timeout)

    async def edit(
        self,
        job: str | Job,
        *,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Sets the labels and annotations that are given and leaves the others; None removes one."""
        request = _pb.UpdateJobRequest(job=reference(job))
        for kind, values, there in (
            ("labels", labels, request.labels),
            ("annotations", annotations, request.annotations),
        ):
            for key, value in (values or {}).items():
                request.update_mask.paths.append(f"{kind}.{key}")
                if value is not None:
                    there[key] = value
        return await self._change("UpdateJob", request, timeout)

    async def cancel(self, job: str | Job, *, save: bool = False, timeout: float | None = None) -> Job:
        """Ends the job, with `save` after a last checkpoint. It may still be stopping when this returns."""
        return await self._change("CancelJob", _pb.CancelJobRequest(job=reference(job), save=save), timeout)

    async def pause(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Saves a checkpoint, gives the devices back and holds the job."""
        return await self._change("PauseJob", _pb.PauseJobRequest(job=reference(job)), timeout)

    async def hold(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Keeps a job that waits from starting. Raises WrongState if it runs: this never stops a training."""
        request = _pb.PauseJobRequest(job=reference(job), only_waiting=True)
        return await self._change("PauseJob", request, timeout)

    async def save(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Saves a checkpoint at the end of the running job's step, and goes on; its metrics tell when it is there."""
        return await self._change("SaveCheckpoint", _pb.SaveCheckpointRequest(job=reference(job)), timeout)

    async def stop(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Ends a running job at the end of its step and keeps what it has learned: it succeeds, with an output."""
        return await self._change("StopJob", _pb.StopJobRequest(job=reference(job)), timeout)

    async def resume(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Queues a paused job again; it goes on from its checkpoint."""
        return await self._change("ResumeJob", _pb.ResumeJobRequest(job=reference(job)), timeout)

    async def release(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Ends a hold: `resume`, by the name that goes with `hold`."""
        return await self.resume(job, timeout=timeout)

    async def retry(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Queues a failed or cancelled job again, from its newest complete checkpoint."""
        return await self._change("RetryJob", _pb.RetryJobRequest(job=reference(job)), timeout)

    async def delete(self, job: str | Job, *, timeout: float | None = None) -> None:
        """Forgets a job that has ended and removes its run directory, outputs included."""
        await self._once(_method("DeleteJob"), _pb.DeleteJobRequest(job=reference(job)), timeout)

    async def _change(self, name: str, request: Any, timeout: float | None) -> Job:
        return read(Job, (await self._once(_method(name), request, timeout)).job)
