"""The gRPC server: its options, its services, its one socket. Built by `ftd.app`; decides nothing.

The options are set on purpose, see each. Two servers on one unix path start without an error, and the first to stop
takes the path with it: so a path that answers is refused, and `Listener.is_ours` tells whether it is still ours later.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from finetuned.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    chat_service_pb2,
    chat_service_pb2_grpc,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    host_service_pb2,
    host_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
    metric_service_pb2,
)
from ftd.service.artifacts import ArtifactService
from ftd.service.chat import ChatService
from ftd.service.datasets import DatasetService
from ftd.service.errors import ErrorInterceptor
from ftd.service.host import HostService
from ftd.service.jobs import JobService
from ftd.service.metrics import MetricService

MESSAGE_BYTES = 4 * 1024 * 1024
OPTIONS: Sequence[tuple[str, Any]] = (
    # A second server on an address must fail, not share it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Bounds what one connection can ask for, and how much a flood of resets can cost.
    ("grpc.max_concurrent_streams", 256),
    # Frees the streams of peers that are gone.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients that ping every 30 s on a quiet stream are welcome.
    ("grpc.http2.min_ping_interval_without_data_ms", 15_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
# Owner and group may connect.
SOCKET_UMASK = 0o117
DIRECTORY_MODE = 0o750
SERVED = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (job_service_pb2, "JobService"),
        (metric_service_pb2, "MetricService"),
        (host_service_pb2, "HostService"),
        (dataset_service_pb2, "DatasetService"),
        (artifact_service_pb2, "ArtifactService"),
        (chat_service_pb2, "ChatService"),
    )
)


class ListenRefused(Exception):
    """The socket cannot be had, in words for the operator."""


@dataclass(frozen=True, slots=True)
class Services:
    """All services of the API."""

    jobs: JobService
    metrics: MetricService
    host: HostService
    datasets: DatasetService
    artifacts: ArtifactService
    chats: ChatService


@dataclass(frozen=True, slots=True)
class Listener:
    """A server that listens on a unix socket."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer
    path: Path
    inode: int

    def is_ours(self) -> bool:
        """Whether clients that connect to the path still reach this server."""
        try:
            return self.path.stat().st_ino == self.inode
        except OSError:
            return False

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls, gives those under way some time, closes the socket."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace_seconds)


async def listen(services: Services, path: Path, calls: int) -> Listener:
    """Serves on a unix socket at `path`, at most `calls` calls at once. Raises ListenRefused."""
    server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=OPTIONS, maximum_concurrent_rpcs=calls)
    job_service_pb2_grpc.add_JobServiceServicer_to_server(services.jobs, server)
    host_service_pb2_grpc.add_HostServiceServicer_to_server(services.host, server)
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(services.datasets, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(services.artifacts, server)
    chat_service_pb2_grpc.add_ChatServiceServicer_to_server(services.chats, server)
    server.add_generic_rpc_handlers((services.metrics.handler(),))
    answers = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)
    reflection.enable_server_reflection((*SERVED, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    inode = _bind(server, path)
    await server.start()
    for name in ("", *SERVED):
        await answers.set(name, health_pb2.HealthCheckResponse.SERVING)
    return Listener(server, answers, path, inode)


def _bind(server: grpc.aio.Server, path: Path) -> int:
    """Binds, and answers with the socket's inode."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=DIRECTORY_MODE)
        if _answers(path):
            raise ListenRefused(f"{path}: another daemon listens there; stop it, or set another [daemon] socket")
        before = os.umask(SOCKET_UMASK)
        try:
            server.add_insecure_port(f"unix:{path}")
        finally:
            os.umask(before)
        return path.stat().st_ino
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "something that is no socket of ours is there"
        raise ListenRefused(f"{path}: cannot listen: {reason}") from None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return False
    return True
