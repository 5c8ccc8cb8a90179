"""ArtifactService: the complete output and checkpoints of a job, with sizes and hashes."""

from __future__ import annotations

import asyncio

from finetuned.v1 import artifact_service_pb2, artifact_service_pb2_grpc
from ftd import wire
from ftd.queue import Queue
from ftd.rundir import RunDirectories
from ftd.service.errors import Context


class ArtifactService(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Lists what jobs leave behind."""

    def __init__(self, queue: Queue, runs: RunDirectories) -> None:
        self._queue = queue
        self._runs = runs

    async def ListArtifacts(
        self, request: artifact_service_pb2.ListArtifactsRequest, _context: Context
    ) -> artifact_service_pb2.ListArtifactsResponse:
        """The output first, then the checkpoints, newest first; a folder that is not complete is not shown."""
        job = await self._queue.find(request.job)
        found = await asyncio.to_thread(self._runs.get(job.id).artifacts, job.output_path)
        response = artifact_service_pb2.ListArtifactsResponse()
        response.artifacts.extend(wire.to_proto(artifact, artifact_service_pb2.Artifact) for artifact in found)
        return response
