"""DatasetService: what the preparation found in a job's data."""

from __future__ import annotations

from finetuned.v1 import data_report_pb2, dataset_service_pb2, dataset_service_pb2_grpc
from ftd import wire
from ftd.errors import NotPrepared
from ftd.queue import Queue
from ftd.service.errors import Context


class DatasetService(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Reports on data."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def GetDataReport(
        self, request: dataset_service_pb2.GetDataReportRequest, _context: Context
    ) -> dataset_service_pb2.GetDataReportResponse:
        """The report with the rows that were dropped."""
        job = await self._queue.find(request.job)
        if job.data is None:
            raise NotPrepared(job.id)
        report = wire.to_proto(job.data, data_report_pb2.DataReport)
        return dataset_service_pb2.GetDataReportResponse(report=report)
