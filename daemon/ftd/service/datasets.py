"""DatasetService: data sets that clients send, what was found in a job's data, and what would be in those of a spec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from finetuned.v1 import (
    data_report_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    job_pb2,
    uploaded_data_pb2,
)
from ftd import wire
from ftd.admission import Admission
from ftd.bootstrap import Preview
from ftd.duration import total_steps, total_tokens
from ftd.errors import InvalidRequest, NotPrepared
from ftd.job import Job
from ftd.looks import Looks
from ftd.queue import Queue
from ftd.records import DataReport, Progress
from ftd.service.errors import Context
from ftd.service.specs import read_spec
from ftd.uploaded import Dataset
from ftd.uploads import Header, Uploads
from ftd.world import World

FIRST_SOURCE = "data.train[0]"
MOST_ROWS = 20
# Between two words on the progress of a check.
TOLD_SECONDS = 1.0
# Data sets in one page of a list.
PAGE, LARGEST_PAGE = 100, 1000


class DatasetService(dataset_service_pb2_grpc.DatasetServiceServicer):
    """Takes data, and reports on it."""

    def __init__(
        self, queue: Queue, admission: Admission, world: World, looks: Looks, uploads: Uploads, spec_bytes: int
    ) -> None:
        self._queue = queue
        self._admission = admission
        self._world = world
        self._looks = looks
        self._uploads = uploads
        self._spec_bytes = spec_bytes

    async def GetDataReport(
        self, request: dataset_service_pb2.GetDataReportRequest, _context: Context
    ) -> dataset_service_pb2.GetDataReportResponse:
        """The report with the rows that were dropped."""
        job = await self._queue.find(request.job)
        if job.data is None:
            raise NotPrepared(job.id)
        return dataset_service_pb2.GetDataReportResponse(report=_report(job.data))

    async def PreviewData(
        self, request: dataset_service_pb2.PreviewDataRequest, _context: Context
    ) -> dataset_service_pb2.PreviewDataResponse:
        """Rows as a job would train on them."""
        rows = request.rows or 1
        if not 0 < rows <= MOST_ROWS or request.row < 0:
            raise InvalidRequest(f"row is {request.row} and rows {rows}; row is 0 or more, rows 1 to {MOST_ROWS}")
        job = await self._job(request.spec)
        wanted = Preview(request.source or FIRST_SOURCE, request.row, rows)
        return dataset_service_pb2.PreviewDataResponse(rows=await self._looks.preview(job, wanted))

    async def CheckData(
        self, request: dataset_service_pb2.CheckDataRequest, _context: Context
    ) -> AsyncIterator[dataset_service_pb2.CheckDataResponse]:
        """The progress of a preparation without a job, then its report."""
        job = await self._job(request.spec)
        told: list[Progress] = []
        checking = asyncio.ensure_future(self._looks.check(job, told.append))
        try:
            while not (await asyncio.wait([checking], timeout=TOLD_SECONDS))[0]:
                if told:
                    yield _progress(told[-1])
            report = checking.result()
        finally:
            checking.cancel()
        yield dataset_service_pb2.CheckDataResponse(
            report=_report(report),
            total_steps=total_steps(job.resolved, report),
            tokens=total_tokens(job.resolved, report),
        )

    async def UploadDataset(
        self, request_iterator: AsyncIterator[uploaded_data_pb2.UploadDatasetRequest], _context: Context
    ) -> uploaded_data_pb2.UploadDatasetResponse:
        """Takes a file; the header comes first."""
        first = await anext(request_iterator, uploaded_data_pb2.UploadDatasetRequest())
        if first.WhichOneof("part") != "header":
            raise InvalidRequest("the first message has no header; accepted is one with it alone, then the data")
        header = first.header
        wanted = Header(header.name, header.file, header.sha256, header.bytes, header.offset)
        return uploaded_data_pb2.UploadDatasetResponse(
            dataset=_dataset(await self._uploads.receive(wanted, _rows(request_iterator)))
        )

    async def GetUpload(
        self, request: uploaded_data_pb2.GetUploadRequest, _context: Context
    ) -> uploaded_data_pb2.GetUploadResponse:
        """How much of a file is here."""
        return uploaded_data_pb2.GetUploadResponse(offset=await self._uploads.offset(request.sha256))

    async def ListDatasets(
        self, request: uploaded_data_pb2.ListDatasetsRequest, _context: Context
    ) -> uploaded_data_pb2.ListDatasetsResponse:
        """A page by name; its token is the last name of the page before."""
        size = request.page_size or PAGE
        if not 1 <= size <= LARGEST_PAGE:
            raise InvalidRequest(f"page_size is {size}; accepted is 1 to {LARGEST_PAGE}")
        found = await self._uploads.datasets.page(size + 1, request.page_token)
        token = found[size - 1].name if len(found) > size else ""
        return uploaded_data_pb2.ListDatasetsResponse(datasets=map(_dataset, found[:size]), next_page_token=token)

    async def GetDataset(
        self, request: uploaded_data_pb2.GetDatasetRequest, _context: Context
    ) -> uploaded_data_pb2.GetDatasetResponse:
        """One, by its name or contents."""
        found = await self._uploads.datasets.find(request.dataset)
        return uploaded_data_pb2.GetDatasetResponse(dataset=_dataset(found))

    async def DeleteDataset(
        self, request: uploaded_data_pb2.DeleteDatasetRequest, _context: Context
    ) -> uploaded_data_pb2.DeleteDatasetResponse:
        """Forgets a name, and the contents with the last one."""
        await self._uploads.delete(request.name)
        return uploaded_data_pb2.DeleteDatasetResponse()

    async def _job(self, message: job_pb2.JobSpec) -> Job:
        """The job that the spec would make."""
        return await self._admission.admit(read_spec(message, self._spec_bytes), await self._world.devices())


async def _rows(requests: AsyncIterator[uploaded_data_pb2.UploadDatasetRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "data":
            raise InvalidRequest("a message after the first has no data; accepted is the header once, then the data")
        yield request.data


def _dataset(dataset: Dataset) -> uploaded_data_pb2.Dataset:
    return wire.to_proto(dataset, uploaded_data_pb2.Dataset)


def _report(report: DataReport) -> data_report_pb2.DataReport:
    return wire.to_proto(report, data_report_pb2.DataReport)


def _progress(progress: Progress) -> dataset_service_pb2.CheckDataResponse:
    found = wire.to_proto(progress, job_pb2.Progress)
    return dataset_service_pb2.CheckDataResponse(phase=found.phase, fraction=progress.phase_fraction)
