"""The calls about data: what was found in a job's, and what would be found in those of a spec."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from finetuned.v1 import dataset_service_pb2, dataset_service_pb2_grpc
from ftclient.calls.base import Caller, Spec, reference, to_spec
from ftclient.previews import DataCheck, PreviewedRow
from ftclient.results import DataReport, Job
from ftclient.transport import Method
from ftclient.wire import read

# A preview loads a tokenizer, and may wait for others; the daemon ends it after 120 s.
PREVIEW_TIMEOUT = 180.0

_pb = dataset_service_pb2


def _method(name: str) -> Method:
    return Method(dataset_service_pb2_grpc.DatasetServiceStub, name)


class DataCalls(Caller):
    """DatasetService."""

    async def data_report(self, job: str | Job, *, timeout: float | None = None) -> DataReport:
        """What the preparation found in the job's data, with the rows it dropped. Raises NotPrepared."""
        request = _pb.GetDataReportRequest(job=reference(job))
        return read(DataReport, (await self._read(_method("GetDataReport"), request, timeout)).report)

    async def preview_data(
        self, spec: Spec, *, source: str = "", row: int = 0, rows: int = 1, timeout: float | None = None
    ) -> tuple[PreviewedRow, ...]:
        """Rows of a spec's data as a job would train on them, from row number `row` of a source, e.g. data.train[0].

        Without `row` the first ones that can be used. Raises InvalidSpec, DataRefused.
        """
        request = _pb.PreviewDataRequest(spec=to_spec(spec), source=source, row=row, rows=rows)
        answer = await self._read(_method("PreviewData"), request, PREVIEW_TIMEOUT if timeout is None else timeout)
        return tuple(read(PreviewedRow, each) for each in answer.rows)

    async def check_data(self, spec: Spec) -> AsyncGenerator[DataCheck]:
        """Prepares a spec's data without a job: its progress about once a second, then its report.

        Closing the iterator ends the check. Raises InvalidSpec, DataRefused.
        """
        request = _pb.CheckDataRequest(spec=to_spec(spec))
        answers = self._connection.messages(
            _method("CheckData"), lambda: request, lambda message: message.HasField("report")
        )
        async with aclosing(answers):
            async for message in answers:
                yield read(DataCheck, message)
