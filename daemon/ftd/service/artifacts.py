"""ArtifactService: the complete output and checkpoints of a job, with sizes and hashes, and their bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from finetuned.v1 import artifact_service_pb2, artifact_service_pb2_grpc
from ftd import downloads, pruning, wire
from ftd.downloads import Download
from ftd.errors import ArtifactNotFound
from ftd.job import Job
from ftd.queue import Queue
from ftd.records import Artifact
from ftd.rundir import OUTPUT, RunDirectories
from ftd.service.errors import Context


class ArtifactService(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """What jobs leave behind."""

    def __init__(self, queue: Queue, runs: RunDirectories) -> None:
        self._queue = queue
        self._runs = runs

    async def ListArtifacts(
        self, request: artifact_service_pb2.ListArtifactsRequest, _context: Context
    ) -> artifact_service_pb2.ListArtifactsResponse:
        """The output first, then the checkpoints, newest first; a folder that is not complete is not shown."""
        found = await self._all(await self._queue.find(request.job))
        response = artifact_service_pb2.ListArtifactsResponse()
        response.artifacts.extend(wire.to_proto(artifact, artifact_service_pb2.Artifact) for artifact in found)
        return response

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, _context: Context
    ) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        """A file or a tar; the first message has its size, and may have no bytes yet."""
        download = await self._download(request)
        length = request.length if request.HasField("length") else None
        chunks = download.read(request.offset, length)
        first = await asyncio.to_thread(next, chunks, b"")
        yield artifact_service_pb2.DownloadArtifactResponse(bytes=download.size, sha256=download.sha256, data=first)
        while data := await asyncio.to_thread(next, chunks, b""):
            yield artifact_service_pb2.DownloadArtifactResponse(data=data)

    async def DeleteArtifact(
        self, request: artifact_service_pb2.DeleteArtifactRequest, _context: Context
    ) -> artifact_service_pb2.DeleteArtifactResponse:
        """Removes a checkpoint that nobody needs."""
        job = await self._queue.find(request.job)
        run = self._runs.get(job.id)
        await asyncio.to_thread(pruning.remove, run, job, request.artifact, self._queue.active())
        return artifact_service_pb2.DeleteArtifactResponse()

    async def _download(self, request: artifact_service_pb2.DownloadArtifactRequest) -> Download:
        job = await self._queue.find(request.job)
        name = request.artifact or OUTPUT
        artifacts = await self._all(job)
        artifact = next((each for each in artifacts if each.name == name), None)
        if artifact is None:
            raise ArtifactNotFound(f"job {job.id}", name, [each.name for each in artifacts])
        if request.file:
            return await asyncio.to_thread(downloads.of_file, artifact, request.file)
        return await asyncio.to_thread(downloads.of_folder, artifact)

    async def _all(self, job: Job) -> tuple[Artifact, ...]:
        return await asyncio.to_thread(self._runs.get(job.id).artifacts, job.output_path)
