"""HostService: the devices with everybody who uses them, and the queue with the reason each job waits.

Both answers are made from a fresh snapshot, the same one the dispatcher decides from, so they never disagree.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections import Counter
from pathlib import Path

from finetuned.v1 import host_service_pb2, host_service_pb2_grpc, job_pb2, training_pb2
from ftd import wire
from ftd.dispatch import Dispatcher
from ftd.queue import Queue
from ftd.records import Reason, ReasonCode
from ftd.service.errors import Context
from ftsched.model import Device, Holding, Snapshot, Waiting
from ftsched.plan import plan

_KINDS = {"gpu": training_pb2.DEVICE_KIND_GPU, "cpu": training_pb2.DEVICE_KIND_CPU}


class HostService(host_service_pb2_grpc.HostServiceServicer):
    """The host as it is now."""

    def __init__(self, queue: Queue, dispatcher: Dispatcher, state_directory: Path, version: str) -> None:
        self._queue = queue
        self._dispatcher = dispatcher
        self._state_directory = state_directory
        self._version = version
        self._start_time = time.time_ns()

    async def GetHost(
        self, _request: host_service_pb2.GetHostRequest, _context: Context
    ) -> host_service_pb2.GetHostResponse:
        """Devices, versions, disk."""
        snapshot = await self._dispatcher.snapshot()
        disk = await asyncio.to_thread(shutil.disk_usage, self._state_directory)
        response = host_service_pb2.GetHostResponse(
            hostname=socket.gethostname(),
            version=self._version,
            state_directory=os.fspath(self._state_directory),
            state_free_bytes=disk.free,
            inventory=self._dispatcher.inventory_source,
            jobs_by_state=Counter(str(job.state) for job in self._queue.active()),
        )
        response.start_time.FromNanoseconds(self._start_time)
        response.devices.extend(_device(device, snapshot) for device in snapshot.devices)
        return response

    async def GetQueue(
        self, _request: host_service_pb2.GetQueueRequest, _context: Context
    ) -> host_service_pb2.GetQueueResponse:
        """Waiting jobs in the order they are tried."""
        snapshot = await self._dispatcher.snapshot()
        waiting = {job.job: job for job in snapshot.waiting}
        response = host_service_pb2.GetQueueResponse()
        decision = await asyncio.to_thread(plan, snapshot, time.time())
        for position, wait in enumerate(decision.waits, start=1):
            entry = self._entry(waiting[wait.job])
            entry.position = position
            entry.reason.CopyFrom(wire.to_proto(Reason(ReasonCode(wait.code), wait.message), job_pb2.Reason))
            entry.waits_for.extend(wait.waits_for)
            response.jobs.append(entry)
        return response

    def _entry(self, waiting: Waiting) -> host_service_pb2.QueuedJob:
        job = next(job for job in self._queue.active() if job.id == waiting.job)
        entry = host_service_pb2.QueuedJob(
            job=job.id,
            name=job.name,
            project=job.project,
            priority=job.priority,
            devices=waiting.ask.devices,
            bytes_per_device=waiting.ask.bytes_per_device,
        )
        entry.queue_time.FromNanoseconds(int(waiting.queue_time * 1e9))
        return entry


def _device(device: Device, snapshot: Snapshot) -> host_service_pb2.Device:
    holdings = [holding for holding in snapshot.holding if device.id in holding.devices]
    message = host_service_pb2.Device(
        id=device.id,
        kind=_KINDS[device.kind],
        name=device.name,
        index=device.index,
        total_bytes=device.total_bytes,
        used_bytes=device.used_bytes,
        reserved_bytes=sum(holding.reserved_bytes for holding in holdings),
        utilization_percent=device.utilization_percent,
        temperature_celsius=device.temperature_celsius,
    )
    message.uses.extend(_job_use(holding, device) for holding in holdings)
    for foreign in device.foreign:
        message.uses.add(pid=foreign.pid, process_name=foreign.name, used_bytes=foreign.bytes)
    return message


def _job_use(holding: Holding, device: Device) -> host_service_pb2.DeviceUse:
    return host_service_pb2.DeviceUse(
        job=holding.job,
        used_bytes=holding.used_bytes.get(device.id, 0),
        reserved_bytes=holding.reserved_bytes,
    )
