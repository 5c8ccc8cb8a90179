"""A daemon for the clients' tests: a real gRPC server on a unix socket that answers from canned messages.

It checks nothing and runs nothing. What a test wants of it stands in its attributes: the jobs there are, what they
reported, and the trouble it is to make: streams cut after so many records, calls answered UNAVAILABLE, answers lost.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from finetuned.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    chat_service_pb2,
    chat_service_pb2_grpc,
    data_preview_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    event_pb2,
    host_service_pb2,
    host_service_pb2_grpc,
    job_changes_pb2,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    metric_service_pb2,
    metric_service_pb2_grpc,
    uploaded_data_pb2,
)

ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
Context = grpc.ServicerContext


class FakeDaemon(
    job_service_pb2_grpc.JobServiceServicer,
    metric_service_pb2_grpc.MetricServiceServicer,
    host_service_pb2_grpc.HostServiceServicer,
    dataset_service_pb2_grpc.DatasetServiceServicer,
    artifact_service_pb2_grpc.ArtifactServiceServicer,
    chat_service_pb2_grpc.ChatServiceServicer,
):
    """All services at once. Start it with `with`; `restart` drops every connection."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.address = f"unix:{socket}"
        self.requests: list[Message] = []
        self.jobs: dict[str, job_pb2.Job] = {}
        self.events: dict[str, list[event_pb2.TrainingEvent]] = defaultdict(list)
        self.log_lines: dict[str, list[event_pb2.LogLine]] = defaultdict(list)
        # What WatchJob says of a job, one after the other; without: the job as it is.
        self.watched: dict[str, list[job_pb2.Job]] = {}
        # What WatchJobs tells: each with its number as the cursor.
        self.changes: list[job_changes_pb2.JobChange] = []
        self.violations: list[job_service_pb2.Violation] = []
        self.plan = job_service_pb2.PlanJobResponse()
        # What ExplainJob says of the job it is asked for, which it adds.
        self.explanation = job_service_pb2.ExplainJobResponse()
        self.host = host_service_pb2.GetHostResponse()
        self.queued: list[host_service_pb2.QueuedJob] = []
        self.projects: list[host_service_pb2.ProjectUse] = []
        self.artifacts: list[artifact_service_pb2.Artifact] = []
        self.data = dataset_service_pb2.GetDataReportResponse()
        self.datasets: list[uploaded_data_pb2.Dataset] = []
        self.previewed: list[data_preview_pb2.PreviewedRow] = []
        self.checks: list[dataset_service_pb2.CheckDataResponse] = []
        # Whether a chat says its first words and no more.
        self.holds_answers = False
        # Why looks at data are refused.
        self.data_refused = ""
        # Records (or jobs, for WatchJob) after which each stream that is opened is cut; later streams are whole.
        self.cuts: deque[int] = deque()
        # How a stream is cut: UNAVAILABLE, or it just ends (OK) without its end record.
        self.cut_code = grpc.StatusCode.UNAVAILABLE
        self.records_per_message = 4
        # So many calls are answered UNAVAILABLE before they are heard, so many submits after.
        self.unavailable = 0
        self.lost_answers = 0
        self._by_request_id: dict[str, tuple[bytes, str]] = {}
        self._server: grpc.Server | None = None

    def __enter__(self) -> FakeDaemon:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        server = grpc.server(ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)])
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, server)
        chat_service_pb2_grpc.add_ChatServiceServicer_to_server(self, server)
        metric_service_pb2_grpc.add_MetricServiceServicer_to_server(self, server)
        host_service_pb2_grpc.add_HostServiceServicer_to_server(self, server)
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(self, server)
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(self, server)
        server.add_insecure_port(self.address)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Ends every call and closes the socket."""
        assert self._server is not None
        self._server.stop(grace=None).wait()

    def restart(self) -> None:
        """As a daemon that is killed and started again."""
        self.stop()
        self._start()

    # Jobs

    def CreateJob(self, request: job_service_pb2.CreateJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        if self.violations:
            self._refuse_spec(context)
        spec = request.spec.SerializeToString(deterministic=True)
        known = self._by_request_id.get(request.request_id)
        if known is not None and known[0] != spec:
            self._refuse(context, "ALREADY_EXISTS", "REQUEST_ID_REUSED", f"they differ in training.seed ({known[1]})")
        if known is None:
            job = job_pb2.Job(id=f"job{len(self.jobs):07d}", name=request.spec.name or "lora-x", spec=request.spec)
            job.state = job_pb2.JOB_STATE_PREPARING
            self.jobs = {job.id: job, **self.jobs}
            known = (spec, job.id)
            self._by_request_id[request.request_id] = known
        if self.lost_answers:
            self.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "answer lost")
        return job_service_pb2.CreateJobResponse(job=self.jobs[known[1]])

    def PlanJob(self, request: job_service_pb2.PlanJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        if self.violations:
            return job_service_pb2.PlanJobResponse(violations=self.violations, fixes=self.plan.fixes)
        return self.plan

    def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return job_service_pb2.GetJobResponse(job=self._find(request.job, context))

    def ListJobs(self, request: job_service_pb2.ListJobsRequest, context: Context) -> Any:  # noqa: N802
        seen = job_service_pb2.ListJobsRequest()
        seen.CopyFrom(request)
        self._heard(seen, context)
        jobs = [job for job in self.jobs.values() if not request.states or job.state in request.states]
        start = int(request.page_token or 0)
        page = jobs[start : start + request.page_size]
        more = start + len(page) < len(jobs)
        return job_service_pb2.ListJobsResponse(jobs=page, next_page_token=str(start + len(page)) if more else "")

    def ExplainJob(self, request: job_service_pb2.ExplainJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        self.explanation.job.CopyFrom(self._find(request.job, context))
        return self.explanation

    def UpdateJob(self, request: job_service_pb2.UpdateJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        job = self._find(request.job, context)
        for name in {"priority", "front"} & set(request.update_mask.paths):
            setattr(job, name, getattr(request, name))
        for key in [path.removeprefix("labels.") for path in request.update_mask.paths if path.startswith("labels.")]:
            job.labels.pop(key, None)
            job.labels.update({key: request.labels[key]} if key in request.labels else {})
        return job_service_pb2.UpdateJobResponse(job=job)

    def CancelJob(self, request: job_service_pb2.CancelJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        job = self._find(request.job, context)
        if job.state in ENDED:
            self._refuse(context, "FAILED_PRECONDITION", "JOB_FINISHED", f"job {job.id} has already ended: succeeded")
        job.state = job_pb2.JOB_STATE_CANCELLED
        return job_service_pb2.CancelJobResponse(job=job)

    def PauseJob(self, request: job_service_pb2.PauseJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        job = self._find(request.job, context)
        if request.only_waiting and job.state == job_pb2.JOB_STATE_RUNNING:
            text = f"cannot hold job {job.id}: it is running; hold needs a job that is preparing or queued"
            self._refuse(context, "FAILED_PRECONDITION", "WRONG_STATE", text)
        job.state = job_pb2.JOB_STATE_PAUSED
        return job_service_pb2.PauseJobResponse(job=job)

    def ResumeJob(self, request: job_service_pb2.ResumeJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        job = self._find(request.job, context)
        job.state = job_pb2.JOB_STATE_QUEUED
        return job_service_pb2.ResumeJobResponse(job=job)

    def RetryJob(self, request: job_service_pb2.RetryJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return job_service_pb2.RetryJobResponse(job=self._find(request.job, context))

    def DeleteJob(self, request: job_service_pb2.DeleteJobRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        del self.jobs[self._find(request.job, context).id]
        return job_service_pb2.DeleteJobResponse()

    def WatchJob(self, request: job_service_pb2.WatchJobRequest, context: Context) -> Iterator[Any]:  # noqa: N802
        self._heard(request, context)
        job = self._find(request.job, context)
        cut = self.cuts.popleft() if self.cuts else None
        seen = self.watched.get(job.id) or [job]
        while seen:
            if cut == 0:
                return self._cut(context)
            cut = None if cut is None else cut - 1
            # The present is sent again to who connects again.
            yield job_service_pb2.WatchJobResponse(job=seen[0])
            if len(seen) == 1:
                break
            del seen[0]
        if seen[0].state not in ENDED:
            _until_closed(context)

    def WatchJobs(self, request: job_changes_pb2.WatchJobsRequest, context: Context) -> Iterator[Any]:  # noqa: N802
        self._heard(request, context)
        cut = self.cuts.popleft() if self.cuts else None
        told = [change for change in self.changes if int(change.cursor) > int(request.cursor or 0)][:cut]
        last = told[-1].cursor if told else request.cursor
        yield job_changes_pb2.WatchJobsResponse(changes=told, cursor=last, up_to_date=cut is None)
        if cut is not None:
            self._cut(context)
        elif not request.no_follow:
            _until_closed(context)

    # Streams

    def StreamMetrics(  # noqa: N802
        self, request: metric_service_pb2.StreamMetricsRequest, context: Context
    ) -> Iterator[metric_service_pb2.StreamMetricsResponse]:
        self._heard(request, context)
        job = self._find(request.job, context)
        response = metric_service_pb2.StreamMetricsResponse
        for part in self._frames(job, self.events[job.id], request.after_seq, request.no_follow, context):
            yield response(events=part[1], first_seq=part[0]) if isinstance(part, tuple) else response(end=part)

    def StreamLogs(  # noqa: N802
        self, request: metric_service_pb2.StreamLogsRequest, context: Context
    ) -> Iterator[metric_service_pb2.StreamLogsResponse]:
        self._heard(request, context)
        job = self._find(request.job, context)
        response = metric_service_pb2.StreamLogsResponse
        lines = self.log_lines[job.id]
        after = max(0, len(lines) - request.tail) if request.tail else request.after_seq
        for part in self._frames(job, lines, after, request.no_follow, context):
            yield response(lines=part[1], first_seq=part[0]) if isinstance(part, tuple) else response(end=part)

    def _frames(
        self, job: job_pb2.Job, records: list[Any], after: int, no_follow: bool, context: Context
    ) -> Iterator[tuple[int, list[Any]] | metric_service_pb2.StreamEnd]:
        """Runs of records with the number of their first, a heartbeat, then the end; or as far as the next cut."""
        cut = self.cuts.popleft() if self.cuts else None
        stop = len(records) if cut is None else min(len(records), after + cut)
        for start in range(after, stop, self.records_per_message):
            yield start + 1, records[start : min(start + self.records_per_message, stop)]
        yield 0, []
        if cut is not None:
            return self._cut(context)
        if not no_follow and job.state not in ENDED:
            _until_closed(context)
        yield metric_service_pb2.StreamEnd(state=job.state, reason=job.reason)

    def _cut(self, context: Context) -> None:
        if self.cut_code is not grpc.StatusCode.OK:
            context.abort(self.cut_code, "cut")

    # The host, data and artifacts

    def GetHost(self, request: host_service_pb2.GetHostRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return self.host

    def GetQueue(self, request: host_service_pb2.GetQueueRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return host_service_pb2.GetQueueResponse(jobs=self.queued)

    def QuarantineDevice(  # noqa: N802
        self, request: host_service_pb2.QuarantineDeviceRequest, context: Context
    ) -> Any:
        self._heard(request, context)
        device = self._find_device(request.device, context)
        device.unfit, device.quarantined = request.reason, True
        return host_service_pb2.QuarantineDeviceResponse()

    def ReleaseDevice(self, request: host_service_pb2.ReleaseDeviceRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        device = self._find_device(request.device, context)
        device.unfit, device.quarantined = "", False
        return host_service_pb2.ReleaseDeviceResponse()

    def ListProjects(self, request: host_service_pb2.ListProjectsRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return host_service_pb2.ListProjectsResponse(projects=self.projects)

    def GetDataReport(self, request: dataset_service_pb2.GetDataReportRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return self.data

    def PreviewData(self, request: dataset_service_pb2.PreviewDataRequest, context: Context) -> Any:  # noqa: N802
        self._heard_look(request, context)
        return dataset_service_pb2.PreviewDataResponse(rows=self.previewed)

    def CheckData(self, request: dataset_service_pb2.CheckDataRequest, context: Context) -> Iterator[Any]:  # noqa: N802
        self._heard_look(request, context)
        yield from self.checks

    def ListDatasets(self, request: uploaded_data_pb2.ListDatasetsRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return uploaded_data_pb2.ListDatasetsResponse(datasets=self.datasets)

    def ListArtifacts(self, request: artifact_service_pb2.ListArtifactsRequest, context: Context) -> Any:  # noqa: N802
        self._heard(request, context)
        return artifact_service_pb2.ListArtifactsResponse(artifacts=self.artifacts)

    def Generate(self, request: chat_service_pb2.GenerateRequest, context: Context) -> Iterator[Any]:  # noqa: N802
        """Says who answers, and what it heard."""
        self._heard(request, context)
        who, turns = "base" if request.base else "tuned", len(request.messages)
        cut = self.cuts.popleft() if self.cuts else None
        for said, text in enumerate((f"{who} heard", f" {request.messages[-1].content!r}", f" in turn {turns}")):
            if said == cut:
                return self._cut(context)
            yield chat_service_pb2.GenerateResponse(text=text)
            while self.holds_answers and context.is_active():
                time.sleep(0.01)
        reason = chat_service_pb2.FINISH_REASON_STOP
        end = chat_service_pb2.GenerateEnd(reason=reason, prompt_tokens=9, new_tokens=3)
        yield chat_service_pb2.GenerateResponse(end=end)

    def _heard_look(self, request: Message, context: Context) -> None:
        self._heard(request, context)
        if self.violations:
            self._refuse_spec(context)
        if self.data_refused:
            self._refuse(context, "FAILED_PRECONDITION", "DATA_REFUSED", self.data_refused)

    def _heard(self, request: Message, context: Context) -> None:
        if self.unavailable:
            self.unavailable -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        self.requests.append(request)

    def _find(self, job: str, context: Context) -> job_pb2.Job:
        named = [j for j in self.jobs.values() if j.id.startswith(job) or j.name == job]
        if len(named) > 1 and job not in self.jobs:
            text = (
                f"{job!r} names {len(named)} jobs: {', '.join(j.id for j in named)}; give a longer prefix or a whole id"
            )
            self._refuse(context, "FAILED_PRECONDITION", "JOB_AMBIGUOUS", text)
        found = self.jobs.get(job) or next(iter(named), None)
        if found is None:
            self._refuse(context, "NOT_FOUND", "JOB_NOT_FOUND", f"no job has the id, id prefix or name {job!r}")
        return found

    def _find_device(self, device: str, context: Context) -> host_service_pb2.Device:
        found = next((d for d in self.host.devices if device in (d.id, f"GPU {d.index}")), None)
        if found is None:
            self._refuse(context, "NOT_FOUND", "DEVICE_NOT_FOUND", f"this host has no device {device!r}")
        return found

    def _refuse_spec(self, context: Context) -> NoReturn:
        problems = error_details_pb2.BadRequest()
        for violation in self.violations:
            problems.field_violations.add(field=violation.field, description=violation.description)
        self._refuse(context, "INVALID_ARGUMENT", "INVALID_SPEC", "the spec has problems", problems)

    def _refuse(self, context: Context, code: str, reason: str, message: str, *details: Message) -> NoReturn:
        status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
        for detail in (error_details_pb2.ErrorInfo(reason=reason, domain="finetuned"), *details):
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort raises")


def _until_closed(context: Context) -> None:
    closed = threading.Event()
    if context.add_callback(closed.set):
        closed.wait()
