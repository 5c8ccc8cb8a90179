"""MetricService: relays a job's journals byte for byte, the past and then what is live, to any number of readers.

A stream has no queue: it reads the file from its own place once the client has taken the message before, so a reader
that is slow or stuck costs one message of memory and delays nobody. Records are never parsed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from finetuned.v1 import metric_service_pb2
from ftd import wire
from ftd.doorbells import Doorbells
from ftd.errors import InvalidRequest, TooMuch
from ftd.job import Job
from ftd.journal import JournalReader
from ftd.moves import TERMINAL
from ftd.queue import Queue
from ftd.records import Progress
from ftd.rundir import RunDirectories
from ftd.service.errors import Context

# At most so many records a message, and after a message that was not full the next one no sooner.
RECORDS = 256
PAUSE_SECONDS = 0.1
HEARTBEAT_SECONDS = 15.0

# StreamMetricsResponse and StreamLogsResponse have the same frame: records, checksums, first_seq, end.
Frame = metric_service_pb2.StreamMetricsResponse


class StreamLimit:
    """The number of streams open at once, of all callers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts one stream. Raises TooMuch."""
        if self._open >= self._most:
            raise TooMuch(f"{self._most} streams are open, which is this daemon's limit; close one, or try again later")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1


class MetricService:
    """Both streams. The generated servicer would parse and build every record; `handler` registers these instead."""

    def __init__(self, queue: Queue, runs: RunDirectories, doorbells: Doorbells, limit: StreamLimit) -> None:
        self._queue = queue
        self._runs = runs
        self._doorbells = doorbells
        self._limit = limit

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, for `grpc.aio.Server.add_generic_rpc_handlers`."""
        # No response_serializer: what these yield is bytes already.
        stream: Any = grpc.unary_stream_rpc_method_handler
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "StreamMetrics": stream(self.stream_metrics, metric_service_pb2.StreamMetricsRequest.FromString),
            "StreamLogs": stream(self.stream_logs, metric_service_pb2.StreamLogsRequest.FromString),
        }
        return grpc.method_handlers_generic_handler("finetuned.v1.MetricService", methods)

    async def stream_metrics(
        self, request: metric_service_pb2.StreamMetricsRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """The job's events after `after_seq`; see the service's contract."""
        job = await self._queue.find(request.job)
        journal = self._runs.get(job.id).events_path
        async for message in self._relay(job, journal, request.after_seq, follow=not request.no_follow):
            yield message

    async def stream_logs(
        self, request: metric_service_pb2.StreamLogsRequest, _context: Context
    ) -> AsyncIterator[bytes]:
        """What the job's processes printed, after `after_seq` or from the last `tail` lines on."""
        if request.tail and request.after_seq:
            raise InvalidRequest("tail and after_seq exclude each other: give one of them")
        job = await self._queue.find(request.job)
        journal = self._runs.get(job.id).logs_path
        after_seq = request.after_seq
        if request.tail:
            after_seq = max(0, await JournalReader(journal).count() - request.tail)
        async for message in self._relay(job, journal, after_seq, follow=not request.no_follow):
            yield message

    async def _relay(self, job: Job, journal: Path, seq: int, *, follow: bool) -> AsyncIterator[bytes]:
        reader = JournalReader(journal)
        clock = asyncio.get_running_loop().time
        spoke = clock()
        with self._limit.one(), self._doorbells.bell(journal.parent) as bell:
            ended = False
            while True:
                run = await reader.fetch(seq, RECORDS)
                if run.count:
                    yield run.data + Frame(first_seq=run.first_seq).SerializeToString()
                    seq += run.count
                    spoke = clock()
                    if run.at_end:
                        await asyncio.sleep(PAUSE_SECONDS)
                    continue
                if ended:
                    yield _end(job)
                    return
                job = await self._queue.get(job.id)
                ended = job.state in TERMINAL or not follow
                if ended:
                    # Once more: a job that has ended writes no more, and what it wrote before is there now.
                    continue
                if clock() - spoke >= HEARTBEAT_SECONDS:
                    yield Frame().SerializeToString()
                    spoke = clock()
                await bell.wait()


def _end(job: Job) -> bytes:
    shown = wire.job_to_proto(job, Progress(), "", full=False)
    end = metric_service_pb2.StreamEnd(state=shown.state, reason=shown.reason)
    return Frame(end=end).SerializeToString()
