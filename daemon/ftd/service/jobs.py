"""JobService: submitting, reading, changing and watching jobs. Converts and delegates; decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from finetuned.v1 import (
    job_changes_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    tracker_pb2,
    training_pb2,
)
from ftd import selectors, wire
from ftd.admission import Admission
from ftd.attempts import Attempts
from ftd.dispatch import Dispatcher, Trial
from ftd.duration import total_steps, total_tokens
from ftd.errors import InvalidRequest, InvalidSpec, TooLarge, WrongState
from ftd.explain import order_of
from ftd.followers import Followers
from ftd.job import Job
from ftd.moves import TERMINAL
from ftd.outlook import Outlook
from ftd.queue import Queue
from ftd.records import Duration, Forecast, Reason, ReasonCode
from ftd.rundir import RunDirectories
from ftd.service.edits import read_edit
from ftd.service.errors import Context
from ftd.service.follow import Following, read_state
from ftd.service.specs import read_spec
from ftd.service.trace import traceparent
from ftd.spec import TrainingSpec
from ftd.store import Filter
from ftd.world import World
from ftsched.plan import plan
from ftsched.verdicts import verdicts

PAGE_SIZE = 50
LARGEST_PAGE = 500
REQUEST_ID_CHARACTERS = 128
CLIENT = "client"


class JobService(job_service_pb2_grpc.JobServiceServicer):
    """The queue and everything in it."""

    def __init__(
        self,
        queue: Queue,
        admission: Admission,
        world: World,
        outlook: Outlook,
        dispatcher: Dispatcher,
        followers: Followers,
        attempts: Attempts,
        runs: RunDirectories,
        following: Following,
        spec_bytes: int,
    ) -> None:
        self._queue = queue
        self._admission = admission
        self._world = world
        self._outlook = outlook
        self._dispatcher = dispatcher
        self._followers = followers
        self._attempts = attempts
        self._runs = runs
        self._following = following
        self._spec_bytes = spec_bytes

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_service_pb2.CreateJobResponse:
        """Checks the spec and queues it; the same request_id answers with the same job."""
        if len(request.request_id) > REQUEST_ID_CHARACTERS:
            raise InvalidRequest(
                f"request_id has {len(request.request_id)} characters; at most {REQUEST_ID_CHARACTERS}"
            )
        spec = read_spec(request.spec, self._spec_bytes)
        job = await self._queue.submitted(request.request_id, spec)
        if job is None:
            made = await self._admission.admit(spec, await self._world.devices(), request.request_id)
            job = await self._queue.submit(replace(made, traceparent=traceparent(context)))
        return job_service_pb2.CreateJobResponse(job=await self._show(job))

    async def PlanJob(
        self, request: job_service_pb2.PlanJobRequest, _context: Context
    ) -> job_service_pb2.PlanJobResponse:
        """What CreateJob would check and decide; problems are part of the answer."""
        response = job_service_pb2.PlanJobResponse()
        try:
            spec = read_spec(request.spec, self._spec_bytes)
            job = await self._admission.admit(spec, await self._world.devices())
        except InvalidSpec as error:
            for violation in error.violations:
                response.violations.add(field=violation.field, description=violation.description)
            if isinstance(error, TooLarge):
                response.fixes.extend(wire.to_proto(fix, job_service_pb2.Fix) for fix in error.fixes)
            return response
        response.resolved.CopyFrom(wire.to_proto(job.resolved, training_pb2.TrainingSpec))
        if job.estimate:
            response.estimate.CopyFrom(wire.to_proto(job.estimate, job_pb2.MemoryEstimate))
        response.total_steps = total_steps(job.resolved, job.data)
        response.tokens = total_tokens(job.resolved, job.data)
        _fill_trial(response, await self._dispatcher.rehearse(job))
        return response

    async def ExplainJob(
        self, request: job_service_pb2.ExplainJobRequest, _context: Context
    ) -> job_service_pb2.ExplainJobResponse:
        """Why a job is where it is."""
        job = await self._queue.find(request.job)
        response = job_service_pb2.ExplainJobResponse()
        standing = await self._world.standing()
        if kept := standing.kept.get(job.id):
            response.waits_for.extend(kept.waits_for)
            job = replace(job, reason=kept.reason)
        snapshot = await self._world.snapshot(standing.ready)
        waiting = next((each for each in snapshot.waiting if each.job == job.id), None)
        if waiting is not None:
            now = self._world.clock()
            decision = await asyncio.to_thread(plan, snapshot, now)
            for position, wait in enumerate(decision.waits, start=1):
                if wait.job == job.id:
                    response.position = position
                    response.waits_for.extend(wait.waits_for)
                    job = replace(job, reason=Reason(ReasonCode(wait.code), wait.message))
            response.order.extend(order_of(waiting, snapshot, now))
            for each in verdicts(snapshot, waiting.ask):
                response.devices.add(device=each.device, label=each.label, fits=each.fits, message=each.message)
        _fill_times(
            response,
            self._outlook.of(job.id) if waiting else None,
            None if job.state in TERMINAL else self._world.duration(job, snapshot.devices),
        )
        response.job.CopyFrom(await self._show(replace(job, transitions=(), resolved=TrainingSpec())))
        response.job.ClearField("resolved")
        return response

    async def GetJob(self, request: job_service_pb2.GetJobRequest, _context: Context) -> job_service_pb2.GetJobResponse:
        """One job, whole."""
        job = await self._queue.find(request.job)
        shown = await self._show(job)
        if job.spec.trackers:
            told = await asyncio.to_thread(self._followers.status, job)
            shown.trackers.extend(wire.to_proto(each, tracker_pb2.TrackerStatus) for each in told)
        return job_service_pb2.GetJobResponse(job=shown)

    async def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, _context: Context
    ) -> job_service_pb2.ListJobsResponse:
        """A page of jobs, the newest first."""
        size = request.page_size or PAGE_SIZE
        if not 0 < size <= LARGEST_PAGE:
            raise InvalidRequest(f"page_size is {size}; 1 to {LARGEST_PAGE}")
        chosen = Filter(
            states=tuple(read_state(number) for number in request.states),
            labels=dict(request.labels),
            project=request.project,
            external_id=request.external_id,
            selector=selectors.parse(request.selector),
        )
        jobs, next_page_token = await self._queue.list(chosen, size, request.page_token)
        response = job_service_pb2.ListJobsResponse(next_page_token=next_page_token)
        for job in jobs:
            response.jobs.append(await self._show(job, full=False))
        return response

    async def UpdateJob(
        self, request: job_service_pb2.UpdateJobRequest, _context: Context
    ) -> job_service_pb2.UpdateJobResponse:
        """Priority, the place before all others, labels and annotations."""
        job = await self._queue.update(request.job, read_edit(request))
        return job_service_pb2.UpdateJobResponse(job=await self._show(job))

    async def CancelJob(
        self, request: job_service_pb2.CancelJobRequest, _context: Context
    ) -> job_service_pb2.CancelJobResponse:
        """Ends a job."""
        job = await self._queue.cancel(request.job, CLIENT, save=request.save)
        return job_service_pb2.CancelJobResponse(job=await self._show(job))

    async def PauseJob(
        self, request: job_service_pb2.PauseJobRequest, _context: Context
    ) -> job_service_pb2.PauseJobResponse:
        """Holds a job."""
        ask = self._queue.hold if request.only_waiting else self._queue.pause
        return job_service_pb2.PauseJobResponse(job=await self._show(await ask(request.job, CLIENT)))

    async def SaveCheckpoint(
        self, request: job_service_pb2.SaveCheckpointRequest, _context: Context
    ) -> job_service_pb2.SaveCheckpointResponse:
        """Saves a checkpoint and goes on."""
        job = await self._queue.training(request.job, "save")
        if not self._attempts.save(job):
            raise WrongState(job.id, "between two attempts", "save", "running")
        return job_service_pb2.SaveCheckpointResponse(job=await self._show(job))

    async def StopJob(
        self, request: job_service_pb2.StopJobRequest, _context: Context
    ) -> job_service_pb2.StopJobResponse:
        """Ends a job and keeps what it has learned."""
        job = await self._queue.stop(request.job, CLIENT)
        return job_service_pb2.StopJobResponse(job=await self._show(job))

    async def ResumeJob(
        self, request: job_service_pb2.ResumeJobRequest, _context: Context
    ) -> job_service_pb2.ResumeJobResponse:
        """Queues a paused job."""
        return job_service_pb2.ResumeJobResponse(job=await self._show(await self._queue.resume(request.job, CLIENT)))

    async def RetryJob(
        self, request: job_service_pb2.RetryJobRequest, _context: Context
    ) -> job_service_pb2.RetryJobResponse:
        """Queues a failed or cancelled job."""
        return job_service_pb2.RetryJobResponse(job=await self._show(await self._queue.retry(request.job, CLIENT)))

    async def DeleteJob(
        self, request: job_service_pb2.DeleteJobRequest, _context: Context
    ) -> job_service_pb2.DeleteJobResponse:
        """Forgets a job that has ended."""
        await self._queue.delete(request.job)
        return job_service_pb2.DeleteJobResponse()

    async def WatchJob(
        self, request: job_service_pb2.WatchJobRequest, _context: Context
    ) -> AsyncIterator[job_service_pb2.WatchJobResponse]:
        """The job now, then after each change, until it has ended."""
        async for response in self._following.watch(request):
            yield response

    async def WaitJob(
        self, request: job_changes_pb2.WaitJobRequest, _context: Context
    ) -> job_changes_pb2.WaitJobResponse:
        """The job once it is where somebody waits for it."""
        return await self._following.wait(request)

    async def WatchJobs(
        self, request: job_changes_pb2.WatchJobsRequest, _context: Context
    ) -> AsyncIterator[job_changes_pb2.WatchJobsResponse]:
        """Every change of state of all jobs, from a cursor on."""
        async for response in self._following.watch_all(request):
            yield response

    async def _show(self, job: Job, *, full: bool = True) -> job_pb2.Job:
        progress = await self._queue.progress(job)
        return wire.job_to_proto(job, progress, str(self._runs.get(job.id).path), full=full)


def _fill_trial(response: job_service_pb2.PlanJobResponse, trial: Trial) -> None:
    response.devices.extend(trial.devices)
    if trial.reason is not None:
        response.wait_reason.CopyFrom(wire.to_proto(trial.reason, job_pb2.Reason))
    _fill_times(response, trial.forecast, trial.duration)


def _fill_times(
    response: job_service_pb2.PlanJobResponse | job_service_pb2.ExplainJobResponse,
    forecast: Forecast | None,
    duration: Duration | None,
) -> None:
    if forecast is not None:
        response.forecast.CopyFrom(wire.to_proto(forecast, job_pb2.Forecast))
    if duration is not None:
        response.duration.CopyFrom(wire.to_proto(duration, job_pb2.Duration))
