"""The calls that follow jobs: one as it changes, what it reports and prints, all of them, and waiting for one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from finetuned.v1 import (
    event_pb2,
    job_changes_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
)
from ftclient import units
from ftclient.calls.base import reference, state_numbers
from ftclient.calls.jobs import JobCalls
from ftclient.changes import JobChange, Waited
from ftclient.enums import JobState
from ftclient.errors import DeadlineExceeded, JobCancelled, JobFailed, WaitTimeout
from ftclient.events import Event, LogLine
from ftclient.history import History
from ftclient.results import Job
from ftclient.transport import Method
from ftclient.wire import read, read_event

# Lines of log that JobFailed carries.
LOG_TAIL = 20
# The daemon answers a WaitJob after so many seconds at the latest; the call itself is given these in addition.
WAIT_GRACE = 30.0

_ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)


class FollowCalls(JobCalls):
    """Streams go on where they broke: nothing is missed, nothing comes twice. Closing one ends it."""

    async def watch(self, job: str | Job, *, timeout: float | None = None) -> AsyncGenerator[Job]:
        """The job now, then again whenever it changes, until it has ended.

        `transitions` are there only in the first one. Raises DeadlineExceeded when `timeout` seconds are over.
        """
        first: job_pb2.Job | None = None
        answers = self._connection.messages(
            Method(job_service_pb2_grpc.JobServiceStub, "WatchJob"),
            lambda: job_service_pb2.WatchJobRequest(job=reference(job)),
            lambda message: message.job.state in _ENDED,
            deadline=None if timeout is None else time.monotonic() + timeout,
        )
        async with aclosing(answers):
            async for answer in answers:
                first = first or answer.job
                if not answer.job.HasField("spec"):
                    answer.job.spec.CopyFrom(first.spec)
                    answer.job.resolved.CopyFrom(first.resolved)
                yield read(Job, answer.job)

    async def metrics(self, job: str | Job, *, after_seq: int = 0, follow: bool = True) -> AsyncGenerator[Event]:
        """Events after `after_seq`, the past and then live, each once, until the job has ended.

        A lost connection is found again where it broke. With `follow=False` it ends after what is there now.
        """
        request = partial(metric_service_pb2.StreamMetricsRequest, job=reference(job), no_follow=not follow)
        records = self._numbered("StreamMetrics", lambda after: request(after_seq=after), after_seq)
        async with aclosing(records):
            async for seq, message in records:
                event = read_event(message, seq)
                if event is not None:
                    yield event

    async def logs(
        self, job: str | Job, *, after_seq: int = 0, tail: int = 0, follow: bool = True
    ) -> AsyncGenerator[LogLine]:
        """What the job's processes printed, as `metrics`; with `tail` only the last lines of what is there now."""
        request = partial(metric_service_pb2.StreamLogsRequest, job=reference(job), no_follow=not follow)
        records = self._numbered(
            "StreamLogs", lambda after: request(after_seq=after, tail=0 if after else tail), after_seq
        )
        async with aclosing(records):
            async for seq, message in records:
                yield read(LogLine, message, seq=seq)

    async def history(self, job: str | Job) -> History:
        """What the job has measured so far: rows, a pandas frame, and in a notebook a chart."""
        events = [event async for event in self.metrics(job, follow=False)]
        return History(reference(job), tuple(events))

    async def wait(
        self, job: str | Job, *, until: Callable[[Job], bool] | None = None, timeout: str | float | None = None
    ) -> Job:
        """The job once it has succeeded, or earlier, once `until(job)` is true of it.

        `timeout` is in seconds or as in "2h". Raises JobFailed, JobCancelled, WaitTimeout.
        """
        seconds = None if timeout is None else units.seconds(timeout)
        try:
            async with aclosing(self.watch(job, timeout=seconds)) as watched:
                async for seen in watched:
                    if until is not None and until(seen):
                        return seen
        except DeadlineExceeded as error:
            raise WaitTimeout(reference(job), seconds or 0.0) from error
        ended = await self.get(job)
        if ended.state is JobState.FAILED:
            raise JobFailed(ended, await self._log_tail(ended))
        if ended.state is JobState.CANCELLED:
            raise JobCancelled(ended)
        return ended

    async def wait_job(
        self,
        job: str | Job,
        *,
        states: Iterable[JobState] = (),
        step: int | None = None,
        after_revision: int | None = None,
        timeout: float = 60.0,
    ) -> Waited:
        """One question that the daemon answers late: once the job is in a state, at a step, or beyond a revision.

        Without any of them: once it has ended; in any case after `timeout` seconds, 0 to 600. For programs that come
        back by themselves; `wait` waits as long as it takes.
        """
        request = job_changes_pb2.WaitJobRequest(
            job=reference(job),
            states=state_numbers(states),
            step=step,
            after_revision=after_revision,
            timeout_seconds=timeout,
        )
        method = Method(job_service_pb2_grpc.JobServiceStub, "WaitJob")
        return read(Waited, await self._read(method, request, timeout + WAIT_GRACE))

    async def watch_jobs(
        self,
        *,
        cursor: str = "",
        selector: str = "",
        project: str = "",
        states: Iterable[JobState] = (),
        follow: bool = True,
        only_new: bool = False,
    ) -> AsyncGenerator[JobChange]:
        """Every change of state of all jobs after `cursor`, the oldest first, then live.

        Keep the `cursor` of the last change that was dealt with: who comes back with it misses nothing. Without one it
        begins with the oldest change that is kept, or with `only_new` now. Raises CursorTooOld.
        """
        last, fixed = cursor, state_numbers(states)

        def request() -> job_changes_pb2.WatchJobsRequest:
            return job_changes_pb2.WatchJobsRequest(
                cursor=last,
                selector=selector,
                project=project,
                states=fixed,
                no_follow=not follow,
                only_new=only_new and not last,
            )

        method = Method(job_service_pb2_grpc.JobServiceStub, "WatchJobs")
        answers = self._connection.messages(method, request, lambda answer: not follow and answer.up_to_date)
        async with aclosing(answers):
            async for answer in answers:
                last = answer.cursor
                for change in answer.changes:
                    yield read(JobChange, change)

    async def _numbered(
        self, name: str, request: Callable[[int], Any], after_seq: int
    ) -> AsyncGenerator[tuple[int, Any]]:
        """Records of a metrics or logs stream with their numbers, none twice."""
        last = after_seq
        answers = self._connection.messages(
            Method(metric_service_pb2_grpc.MetricServiceStub, name),
            lambda: request(last),
            lambda message: message.HasField("end"),
        )
        async with aclosing(answers):
            async for message in answers:
                for seq, record in enumerate(_records(message), message.first_seq):
                    if seq > last:
                        last = seq
                        yield seq, record

    async def _log_tail(self, job: Job) -> Sequence[str]:
        return [line.text async for line in self.logs(job, tail=LOG_TAIL, follow=False)]


def _records(
    message: metric_service_pb2.StreamMetricsResponse | metric_service_pb2.StreamLogsResponse,
) -> Iterable[event_pb2.TrainingEvent | event_pb2.LogLine]:
    if isinstance(message, metric_service_pb2.StreamMetricsResponse):
        return message.events
    return message.lines
