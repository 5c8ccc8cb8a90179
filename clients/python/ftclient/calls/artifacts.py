"""The calls about what jobs leave behind."""

from __future__ import annotations

from finetuned.v1 import artifact_service_pb2, artifact_service_pb2_grpc
from ftclient.calls.base import Caller, reference
from ftclient.results import Job
from ftclient.stored import Artifact
from ftclient.transport import Method
from ftclient.wire import read

_pb = artifact_service_pb2


def _method(name: str) -> Method:
    return Method(artifact_service_pb2_grpc.ArtifactServiceStub, name)


class ArtifactCalls(Caller):
    """ArtifactService."""

    async def artifacts(self, job: str | Job, *, timeout: float | None = None) -> tuple[Artifact, ...]:
        """The job's output first, then its complete checkpoints, newest first."""
        request = _pb.ListArtifactsRequest(job=reference(job))
        answer = await self._read(_method("ListArtifacts"), request, timeout)
        return tuple(read(Artifact, found) for found in answer.artifacts)
