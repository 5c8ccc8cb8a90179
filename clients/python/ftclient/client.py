"""The SDK's one class: every call of the daemon as a method that takes plain values and returns frozen records.

`job` is an id, a prefix of one, a name that only one job has, or a Job. `timeout` is in seconds for this one call.
Calls raise the errors of `ftclient.errors`. A submit carries a request_id, so that repeating it cannot make two jobs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from finetuned.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    event_pb2,
    host_service_pb2,
    host_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
)
from ftclient import units
from ftclient.connection import Connection, default_addresses
from ftclient.enums import JobState
from ftclient.errors import DeadlineExceeded, JobCancelled, JobFailed, WaitTimeout
from ftclient.events import Event, LogLine
from ftclient.host import Host, ProjectUse, QueuedJob
from ftclient.previews import DataCheck, PreviewedRow
from ftclient.results import Artifact, DataReport, Explanation, Job, Plan
from ftclient.wire import read, read_event

R = TypeVar("R")

# A stream that lost the daemon tries for so many seconds to find it again.
PATIENCE = 120.0
# A preview loads a tokenizer, and may wait for others; the daemon ends it after 120 s.
PREVIEW_TIMEOUT = 180.0
# Lines of log that JobFailed carries.
LOG_TAIL = 20
# Jobs asked for at once while a list is read.
PAGE = 100

_jobs = job_service_pb2
_host = host_service_pb2
_ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
Spec = job_pb2.JobSpec | Mapping[str, Any]


class Client:
    """A connection to the daemon at `address`, by default FTD_ADDRESS or the first default socket that answers.

    Connects at the first call. Use it as a context manager, or call `close`.
    """

    def __init__(self, address: str | None = None, *, patience: float = PATIENCE) -> None:
        self._connection = Connection((address,) if address else default_addresses(), patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every call and stream that is open."""
        self._connection.close()

    # Jobs

    def submit(
        self, spec: Spec, *, request_id: str | None = None, hold: bool | None = None, timeout: float | None = None
    ) -> Job:
        """Queues a job; when this returns it is on the daemon's disk.

        `spec` is a JobSpec (see `load_spec`) or a mapping with the fields of a spec file. Give a `request_id` made
        from your own run's id and a repeated submit returns the same job. Raises InvalidSpec, SpecFileError,
        AlreadyExists, LimitReached.
        """
        message = _to_spec(spec)
        if hold is not None:
            message.hold = hold
        key = request_id or uuid.uuid4().hex
        request = _jobs.CreateJobRequest(spec=message, request_id=key)
        method = _job_method("CreateJob")
        answer = self._connection.call(method, request, timeout=timeout, repeatable=True, request_id=key)
        return read(Job, answer.job)

    def plan(self, spec: Spec, *, timeout: float | None = None) -> Plan:
        """What submitting the spec would do: its problems, or its resolved form, memory, devices. Makes no job."""
        return read(Plan, self._read(_job_method("PlanJob"), _jobs.PlanJobRequest(spec=_to_spec(spec)), timeout))

    def get(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """The job with everything known of it. Raises NotFound, Ambiguous."""
        return read(Job, self._read(_job_method("GetJob"), _jobs.GetJobRequest(job=_ref(job)), timeout).job)

    def explain(self, job: str | Job, *, timeout: float | None = None) -> Explanation:
        """Why the job is where it is: what each device says to it, what puts it at its place, when it will start."""
        return read(Explanation, self._read(_job_method("ExplainJob"), _jobs.ExplainJobRequest(job=_ref(job)), timeout))

    def list(
        self,
        *,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        project: str = "",
        external_id: str = "",
        page_size: int = PAGE,
        timeout: float | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page as they are consumed. `timeout` is for each page."""
        request = _jobs.ListJobsRequest(
            page_size=page_size,
            states=[job_pb2.JobState.Value(f"JOB_STATE_{state.upper()}") for state in states],
            labels=labels or {},
            project=project,
            external_id=external_id,
        )
        while True:
            page = self._read(_job_method("ListJobs"), request, timeout)
            yield from (read(Job, job) for job in page.jobs)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def update(
        self,
        job: str | Job,
        *,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        front: bool | None = None,
        timeout: float | None = None,
    ) -> Job:
        """Changes the priority, replaces all labels, or moves it before all others of its priority; None stays."""
        given = {"priority": priority, "labels": labels, "front": front}
        request = _jobs.UpdateJobRequest(job=_ref(job), priority=priority or 0, labels=labels or {}, front=bool(front))
        request.update_mask.paths.extend(name for name, value in given.items() if value is not None)
        return self._change("UpdateJob", request, timeout)

    def cancel(self, job: str | Job, *, save: bool = False, timeout: float | None = None) -> Job:
        """Ends the job, with `save` after a last checkpoint. It may still be stopping when this returns."""
        return self._change("CancelJob", _jobs.CancelJobRequest(job=_ref(job), save=save), timeout)

    def pause(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Saves a checkpoint, gives the devices back and holds the job."""
        return self._change("PauseJob", _jobs.PauseJobRequest(job=_ref(job)), timeout)

    def hold(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Keeps a job that waits from starting. Raises WrongState if it runs: this never stops a training."""
        return self._change("PauseJob", _jobs.PauseJobRequest(job=_ref(job), only_waiting=True), timeout)

    def save(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Saves a checkpoint at the end of the running job's step, and goes on; its metrics tell when it is there."""
        return self._change("SaveCheckpoint", _jobs.SaveCheckpointRequest(job=_ref(job)), timeout)

    def stop(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Ends a running job at the end of its step and keeps what it has learned: it succeeds, with an output."""
        return self._change("StopJob", _jobs.StopJobRequest(job=_ref(job)), timeout)

    def resume(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Queues a paused job again; it goes on from its checkpoint."""
        return self._change("ResumeJob", _jobs.ResumeJobRequest(job=_ref(job)), timeout)

    def release(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Ends a hold: `resume`, by the name that goes with `hold`."""
        return self.resume(job, timeout=timeout)

    def retry(self, job: str | Job, *, timeout: float | None = None) -> Job:
        """Queues a failed or cancelled job again, from its newest complete checkpoint."""
        return self._change("RetryJob", _jobs.RetryJobRequest(job=_ref(job)), timeout)

    def delete(self, job: str | Job, *, timeout: float | None = None) -> None:
        """Forgets a job that has ended and removes its run directory, outputs included."""
        request = _jobs.DeleteJobRequest(job=_ref(job))
        self._connection.call(_job_method("DeleteJob"), request, timeout=timeout, repeatable=False)

    # Streams

    def watch(self, job: str | Job, *, timeout: float | None = None) -> Iterator[Job]:
        """The job now, then again whenever it changes, until it has ended.

        `transitions` are there only in the first one. Raises DeadlineExceeded when `timeout` seconds are over.
        """
        method = _job_method("WatchJob")
        request = _jobs.WatchJobRequest(job=_ref(job))
        first: job_pb2.Job | None = None
        for answer in self._connection.messages(
            lambda channel, left: method(channel)(request, timeout=left),
            lambda message: message.job.state in _ENDED,
            deadline=None if timeout is None else time.monotonic() + timeout,
        ):
            first = first or answer.job
            if not answer.job.HasField("spec"):
                answer.job.spec.CopyFrom(first.spec)
                answer.job.resolved.CopyFrom(first.resolved)
            yield read(Job, answer.job)

    def metrics(self, job: str | Job, *, after_seq: int = 0, follow: bool = True) -> Iterator[Event]:
        """Events after `after_seq`, the past and then live, each once, until the job has ended.

        A lost connection is found again where it broke. With `follow=False` it ends after what is there now.
        """
        request = partial(metric_service_pb2.StreamMetricsRequest, job=_ref(job), no_follow=not follow)
        for seq, message in self._numbered("StreamMetrics", lambda after: request(after_seq=after), after_seq):
            event = read_event(message, seq)
            if event is not None:
                yield event

    def logs(self, job: str | Job, *, after_seq: int = 0, tail: int = 0, follow: bool = True) -> Iterator[LogLine]:
        """What the job's processes printed, as `metrics`; with `tail` only the last lines of what is there now."""
        request = partial(metric_service_pb2.StreamLogsRequest, job=_ref(job), no_follow=not follow)
        for seq, message in self._numbered(
            "StreamLogs", lambda after: request(after_seq=after, tail=0 if after else tail), after_seq
        ):
            yield read(LogLine, message, seq=seq)

    def wait(
        self, job: str | Job, *, until: Callable[[Job], bool] | None = None, timeout: str | float | None = None
    ) -> Job:
        """The job once it has succeeded, or earlier, once `until(job)` is true of it.

        `timeout` is in seconds or as in "2h". Raises JobFailed, JobCancelled, WaitTimeout.
        """
        seconds = None if timeout is None else units.seconds(timeout)
        try:
            for seen in self.watch(job, timeout=seconds):
                if until is not None and until(seen):
                    return seen
        except DeadlineExceeded as error:
            raise WaitTimeout(_ref(job), seconds or 0.0) from error
        ended = self.get(job)
        if ended.state is JobState.FAILED:
            raise JobFailed(ended, self._log_tail(ended))
        if ended.state is JobState.CANCELLED:
            raise JobCancelled(ended)
        return ended

    # The host, data and artifacts

    def host(self, *, timeout: float | None = None) -> Host:
        """The daemon's host and its devices."""
        return read(Host, self._read(_host_method("GetHost"), _host.GetHostRequest(), timeout))

    def queue(self, *, timeout: float | None = None) -> tuple[QueuedJob, ...]:
        """The jobs that wait, in the order they will be tried, each with its reason."""
        answer = self._read(_host_method("GetQueue"), _host.GetQueueRequest(), timeout)
        return tuple(read(QueuedJob, job) for job in answer.jobs)

    def projects(self, *, timeout: float | None = None) -> tuple[ProjectUse, ...]:
        """Each project with what it holds, has had and may have."""
        answer = self._read(_host_method("ListProjects"), _host.ListProjectsRequest(), timeout)
        return tuple(read(ProjectUse, project) for project in answer.projects)

    def quarantine_device(self, device: str, *, reason: str, timeout: float | None = None) -> None:
        """Starts nothing on the device any more; jobs on it go on. `device` is an id, or as in "GPU 2"."""
        request = _host.QuarantineDeviceRequest(device=device, reason=reason)
        self._connection.call(_host_method("QuarantineDevice"), request, timeout=timeout, repeatable=False)

    def release_device(self, device: str, *, timeout: float | None = None) -> None:
        """Ends a device's quarantine, whoever began it."""
        request = _host.ReleaseDeviceRequest(device=device)
        self._connection.call(_host_method("ReleaseDevice"), request, timeout=timeout, repeatable=False)

    def data_report(self, job: str | Job, *, timeout: float | None = None) -> DataReport:
        """What the preparation found in the job's data, with the rows it dropped. Raises NotPrepared."""
        method = _method(dataset_service_pb2_grpc.DatasetServiceStub, "GetDataReport")
        request = dataset_service_pb2.GetDataReportRequest(job=_ref(job))
        return read(DataReport, self._read(method, request, timeout).report)

    def preview_data(
        self, spec: Spec, *, source: str = "", row: int = 0, rows: int = 1, timeout: float | None = None
    ) -> tuple[PreviewedRow, ...]:
        """Rows of a spec's data as a job would train on them, from row number `row` of a source, e.g. data.train[0].

        Without `row` the first ones that can be used. Raises InvalidSpec, DataRefused.
        """
        method = _method(dataset_service_pb2_grpc.DatasetServiceStub, "PreviewData")
        request = dataset_service_pb2.PreviewDataRequest(spec=_to_spec(spec), source=source, row=row, rows=rows)
        answer = self._read(method, request, PREVIEW_TIMEOUT if timeout is None else timeout)
        return tuple(read(PreviewedRow, each) for each in answer.rows)

    def check_data(self, spec: Spec) -> Generator[DataCheck]:
        """Prepares a spec's data without a job: its progress about once a second, then its report.

        Closing the iterator ends the check. Raises InvalidSpec, DataRefused.
        """
        method = _method(dataset_service_pb2_grpc.DatasetServiceStub, "CheckData")
        request = dataset_service_pb2.CheckDataRequest(spec=_to_spec(spec))
        messages = self._connection.messages(
            lambda channel, _: method(channel)(request), lambda message: message.HasField("report")
        )
        for message in messages:
            yield read(DataCheck, message)

    def artifacts(self, job: str | Job, *, timeout: float | None = None) -> tuple[Artifact, ...]:
        """The job's output first, then its complete checkpoints, newest first."""
        method = _method(artifact_service_pb2_grpc.ArtifactServiceStub, "ListArtifacts")
        request = artifact_service_pb2.ListArtifactsRequest(job=_ref(job))
        return tuple(read(Artifact, found) for found in self._read(method, request, timeout).artifacts)

    def _read(self, method: Callable[[Any], Callable[..., R]], request: Any, timeout: float | None) -> R:
        return self._connection.call(method, request, timeout=timeout, repeatable=True)

    def _change(self, name: str, request: Any, timeout: float | None) -> Job:
        """A call that changes a job. Never repeated: the first try may have been heard."""
        answer = self._connection.call(_job_method(name), request, timeout=timeout, repeatable=False)
        return read(Job, answer.job)

    def _numbered(self, name: str, request: Callable[[int], Any], after_seq: int) -> Iterator[tuple[int, Any]]:
        """Records of a metrics or logs stream with their numbers, none twice."""
        last = after_seq
        method = _method(metric_service_pb2_grpc.MetricServiceStub, name)

        def start(channel: Any, _: float | None) -> Any:
            return method(channel)(request(last))

        for message in self._connection.messages(start, lambda message: message.HasField("end")):
            for seq, record in enumerate(_records(message), message.first_seq):
                if seq > last:
                    last = seq
                    yield seq, record

    def _log_tail(self, job: Job) -> Sequence[str]:
        return [line.text for line in self.logs(job, tail=LOG_TAIL, follow=False)]


def _method(stub: Callable[[Any], Any], name: str) -> Callable[[Any], Callable[..., Any]]:
    return lambda channel: getattr(stub(channel), name)


def _job_method(name: str) -> Callable[[Any], Callable[..., Any]]:
    return _method(job_service_pb2_grpc.JobServiceStub, name)


def _host_method(name: str) -> Callable[[Any], Callable[..., Any]]:
    return _method(host_service_pb2_grpc.HostServiceStub, name)


def _records(
    message: metric_service_pb2.StreamMetricsResponse | metric_service_pb2.StreamLogsResponse,
) -> Iterable[event_pb2.TrainingEvent | event_pb2.LogLine]:
    if isinstance(message, metric_service_pb2.StreamMetricsResponse):
        return message.events
    return message.lines


def _ref(job: str | Job) -> str:
    return job.id if isinstance(job, Job) else job


def _to_spec(spec: Spec) -> job_pb2.JobSpec:
    """A copy of the message, or what the mapping describes; its relative paths start at the current folder."""
    message = job_pb2.JobSpec()
    if isinstance(spec, job_pb2.JobSpec):
        message.CopyFrom(spec)
        return message
    from ftclient.specfile import from_mapping

    return from_mapping(spec)
