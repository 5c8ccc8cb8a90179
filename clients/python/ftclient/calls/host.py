"""The calls about the host: its devices, its queue, its projects."""

from __future__ import annotations

from finetuned.v1 import host_service_pb2, host_service_pb2_grpc
from ftclient.calls.base import Caller
from ftclient.host import Host, ProjectUse, QueuedJob
from ftclient.transport import Method
from ftclient.wire import read

_pb = host_service_pb2


def _method(name: str) -> Method:
    return Method(host_service_pb2_grpc.HostServiceStub, name)


class HostCalls(Caller):
    """HostService."""

    async def host(self, *, timeout: float | None = None) -> Host:
        """The daemon's host and its devices."""
        return read(Host, await self._read(_method("GetHost"), _pb.GetHostRequest(), timeout))

    async def queue(self, *, timeout: float | None = None) -> tuple[QueuedJob, ...]:
        """The jobs that wait, in the order they will be tried, each with its reason."""
        answer = await self._read(_method("GetQueue"), _pb.GetQueueRequest(), timeout)
        return tuple(read(QueuedJob, job) for job in answer.jobs)

    async def projects(self, *, timeout: float | None = None) -> tuple[ProjectUse, ...]:
        """Each project with what it holds, has had and may have."""
        answer = await self._read(_method("ListProjects"), _pb.ListProjectsRequest(), timeout)
        return tuple(read(ProjectUse, project) for project in answer.projects)

    async def quarantine_device(self, device: str, *, reason: str, timeout: float | None = None) -> None:
        """Starts nothing on the device any more; jobs on it go on. `device` is an id, or as in "GPU 2"."""
        request = _pb.QuarantineDeviceRequest(device=device, reason=reason)
        await self._once(_method("QuarantineDevice"), request, timeout)

    async def release_device(self, device: str, *, timeout: float | None = None) -> None:
        """Ends a device's quarantine, whoever began it."""
        await self._once(_method("ReleaseDevice"), _pb.ReleaseDeviceRequest(device=device), timeout)
