"""The calls that move files: data sets to the daemon's host, artifacts from it. Both go on where they were cut.

What lies on this side is `ftclient.transfer`'s.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

from finetuned.v1 import artifact_service_pb2, artifact_service_pb2_grpc, dataset_service_pb2_grpc, uploaded_data_pb2
from ftclient.calls.artifacts import ArtifactCalls
from ftclient.calls.base import reference
from ftclient.errors import ApiError, NotFound
from ftclient.results import Job
from ftclient.stored import Artifact, Dataset
from ftclient.transfer import Progress, Receiving, Sending, is_there, silent
from ftclient.transport import Method
from ftclient.wire import read

# Beside the files that are listed; it comes last, so a folder that has it is whole.
MANIFEST = "manifest.json"
# An upload takes as long as it takes.
UPLOAD_TIMEOUT = 86_400.0
# Seconds between the tries of an upload that gets no further; one that does begins with the first again.
PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
# A daemon that shuts down cancels what is under way.
_CUT = ("UNAVAILABLE", "CANCELLED")


class TransferCalls(ArtifactCalls):
    """Uploads, downloads, and what is there of both."""

    async def upload(
        self, path: str | os.PathLike[str], *, name: str | None = None, progress: Progress = silent
    ) -> Dataset:
        """Sends a file of rows to the daemon's host: `data.train[].dataset` then takes its name, or its SHA-256.

        `name` is by default made of the file's. What is there already is not sent again. `progress` is called with the
        bytes that are there and those of the file, maybe from another thread. Raises TransferError, AlreadyExists if
        other contents have the name, LimitReached, Corrupted.
        """
        run = self._connection.transport.run
        sending = await run(partial(Sending.of, Path(path), name))
        offset, tries = await self._received(sending.sha256), iter(PAUSES)
        while True:
            progress(offset, sending.bytes)
            try:
                return await self._send(sending, offset, progress)
            except ApiError as error:
                before, offset = offset, await self._received_before(error, sending.sha256, tries)
                tries = iter(PAUSES) if offset > before else tries

    async def datasets(self, *, timeout: float | None = None) -> AsyncGenerator[Dataset]:
        """The data sets on the daemon's host, by name, fetched page by page as they are consumed."""
        request = uploaded_data_pb2.ListDatasetsRequest()
        while True:
            page = await self._read(_data("ListDatasets"), request, timeout)
            for dataset in page.datasets:
                yield read(Dataset, dataset)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def dataset(self, dataset: str, *, timeout: float | None = None) -> Dataset:
        """One, by its name or the SHA-256 of its contents. Raises NotFound."""
        request = uploaded_data_pb2.GetDatasetRequest(dataset=dataset)
        return read(Dataset, (await self._read(_data("GetDataset"), request, timeout)).dataset)

    async def delete_dataset(self, name: str, *, timeout: float | None = None) -> None:
        """Forgets a name, and the contents with the last one. Raises NotFound, WrongState while a job uses them."""
        await self._once(_data("DeleteDataset"), uploaded_data_pb2.DeleteDatasetRequest(name=name), timeout)

    async def download(
        self,
        job: str | Job,
        to: str | os.PathLike[str],
        *,
        artifact: str = "output",
        progress: Progress = silent,
    ) -> Path:
        """Fetches an artifact of a job into the folder `to`, every file with its checksum; answers with that folder.

        Run again after a cut it goes on where it was; files that are there stay. `progress` is called with the bytes
        that have come and all there are. Raises NotFound, TransferError, Corrupted.
        """
        found = await self._artifact(job, artifact)
        folder, done = Path(to), 0
        for file in found.files:
            here = partial(is_there, folder / file.path, file.sha256)
            if not await self._connection.transport.run(here):
                receiving = Receiving(folder, file.path)
                if receiving.offset > file.bytes:
                    receiving.restart()
                await self._fetch(job, found, file.path, receiving, partial(_told, progress, done, found.bytes))
            done += file.bytes
            progress(done, found.bytes)
        manifest = Receiving(folder, MANIFEST)
        manifest.restart()
        await self._fetch(job, found, MANIFEST, manifest, partial(_told, silent, 0, 0))
        return folder

    async def delete_artifact(self, job: str | Job, artifact: str, *, timeout: float | None = None) -> None:
        """Removes a checkpoint. Raises NotFound, WrongState if a job needs it."""
        request = artifact_service_pb2.DeleteArtifactRequest(job=reference(job), artifact=artifact)
        await self._once(_artifacts("DeleteArtifact"), request, timeout)

    async def _received(self, sha256: str) -> int:
        request = uploaded_data_pb2.GetUploadRequest(sha256=sha256)
        answer: uploaded_data_pb2.GetUploadResponse = await self._read(_data("GetUpload"), request, None)
        return answer.offset

    async def _received_before(self, cut: ApiError, sha256: str, tries: Iterator[float]) -> int:
        """Where to go on after a cut, once the daemon is there again. Raises what is no cut, and the last of all."""
        while cut.code in _CUT and (pause := next(tries, None)) is not None:
            await self._connection.transport.sleep(pause)
            try:
                return await self._received(sha256)
            except ApiError as error:
                cut = error
        raise cut

    async def _send(self, sending: Sending, offset: int, progress: Progress) -> Dataset:
        requests = sending.requests(offset, progress)
        return read(Dataset, (await self._once(_data("UploadDataset"), requests, UPLOAD_TIMEOUT)).dataset)

    async def _artifact(self, job: str | Job, name: str) -> Artifact:
        found = await self.artifacts(job)
        for each in found:
            if each.name == name:
                return each
        has = f"it has {', '.join(each.name for each in found)}" if found else "it has none yet"
        raise NotFound(f"job {reference(job)} has no artifact {name!r}; {has}", code="NOT_FOUND")

    async def _fetch(
        self, job: str | Job, artifact: Artifact, file: str, receiving: Receiving, told: Callable[[int], None]
    ) -> None:
        """The rest of one file."""

        def request() -> artifact_service_pb2.DownloadArtifactRequest:
            return artifact_service_pb2.DownloadArtifactRequest(
                job=reference(job), artifact=artifact.name, file=file, offset=receiving.offset
            )

        messages = self._connection.messages(_artifacts("DownloadArtifact"), request, lambda _: receiving.is_whole)
        try:
            async with aclosing(messages):
                async for message in messages:
                    await self._connection.transport.run(partial(receiving.take, message))
                    told(receiving.offset)
            await self._connection.transport.run(receiving.finish)
        finally:
            receiving.close()


def _told(progress: Progress, before: int, total: int, offset: int) -> None:
    """Tells of one file's bytes as a part of all."""
    progress(before + offset, total)


def _data(name: str) -> Method:
    return Method(dataset_service_pb2_grpc.DatasetServiceStub, name)


def _artifacts(name: str) -> Method:
    return Method(artifact_service_pb2_grpc.ArtifactServiceStub, name)
