"""HostService: the devices with everybody who uses them, the queue with the reason each job waits, the projects.

All answers are made from a fresh snapshot, the same one the dispatcher decides from, so they never disagree.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetuned.v1 import host_service_pb2, host_service_pb2_grpc, job_pb2, training_pb2
from ftd import wire
from ftd.devices import Inventory, Sensors
from ftd.dispatch import Dispatcher
from ftd.errors import DeviceNotFound, DevicesUnreadable, InvalidRequest
from ftd.job import Job
from ftd.outlook import Outlook
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.records import JobState, Reason, ReasonCode
from ftd.service.errors import Context
from ftd.world import World
from ftsched.model import Device, Holding, Quota, Snapshot
from ftsched.plan import plan

_KINDS = {"gpu": training_pb2.DEVICE_KIND_GPU, "cpu": training_pb2.DEVICE_KIND_CPU}
_REASON_CHARACTERS = 200


class HostService(host_service_pb2_grpc.HostServiceServicer):
    """The host as it is now."""

    def __init__(
        self,
        queue: Queue,
        world: World,
        outlook: Outlook,
        dispatcher: Dispatcher,
        quarantine: Quarantine,
        inventory: Inventory,
        state_directory: Path,
        version: str,
    ) -> None:
        self._queue = queue
        self._world = world
        self._outlook = outlook
        self._dispatcher = dispatcher
        self._quarantine = quarantine
        self._inventory = inventory
        self._state_directory = state_directory
        self._version = version
        self._start_time = time.time_ns()

    async def GetHost(
        self, _request: host_service_pb2.GetHostRequest, _context: Context
    ) -> host_service_pb2.GetHostResponse:
        """Devices, versions, disk."""
        snapshot, sensors = await self._world.snapshot(), await self._world.sensors()
        disk = await asyncio.to_thread(shutil.disk_usage, self._state_directory)
        response = host_service_pb2.GetHostResponse(
            hostname=socket.gethostname(),
            version=self._version,
            state_directory=os.fspath(self._state_directory),
            state_free_bytes=disk.free,
            inventory=self._inventory.source,
            jobs_by_state=Counter(str(job.state) for job in self._queue.active()),
        )
        response.start_time.FromNanoseconds(self._start_time)
        for device in snapshot.devices:
            message = _device(device, snapshot, sensors.get(device.id, Sensors()))
            message.quarantined = device.id in self._quarantine
            response.devices.append(message)
        return response

    async def GetQueue(
        self, _request: host_service_pb2.GetQueueRequest, _context: Context
    ) -> host_service_pb2.GetQueueResponse:
        """Waiting jobs in the order they are tried, then those that may not be tried yet."""
        standing = await self._world.standing()
        jobs = {job.id: job for job in self._queue.active() if job.state is JobState.QUEUED}
        waits: list[tuple[str, Reason, Sequence[str]]] = []
        devices: tuple[Device, ...] = ()
        try:
            snapshot = await self._world.snapshot(standing.ready)
        except DevicesUnreadable:
            # The reasons that are stored say so.
            waits += [(job.id, job.reason, ()) for job in standing.ready]
        else:
            devices = snapshot.devices
            decision = await asyncio.to_thread(plan, snapshot, self._world.clock())
            waits += [(w.job, Reason(ReasonCode(w.code), w.message), w.waits_for) for w in decision.waits]
        waits += [(job, kept.reason, kept.waits_for) for job, kept in standing.kept.items()]
        response = host_service_pb2.GetQueueResponse()
        for position, (job_id, reason, waits_for) in enumerate(waits, start=1):
            # It may have been cancelled meanwhile.
            if job := jobs.get(job_id):
                entry = self._entry(job, devices)
                entry.position = position
                entry.reason.CopyFrom(wire.to_proto(reason, job_pb2.Reason))
                entry.waits_for.extend(waits_for)
                response.jobs.append(entry)
        return response

    async def QuarantineDevice(
        self, request: host_service_pb2.QuarantineDeviceRequest, _context: Context
    ) -> host_service_pb2.QuarantineDeviceResponse:
        """Nothing is started on it any more."""
        if not 0 < len(request.reason.strip()) <= _REASON_CHARACTERS:
            raise InvalidRequest(
                f"reason has {len(request.reason)} characters; accepted are 1 to {_REASON_CHARACTERS}, for those who "
                "read it later"
            )
        device = _named(request.device, await self._world.devices())
        await self._quarantine.begin(device.id, request.reason.strip())
        self._dispatcher.wake()
        return host_service_pb2.QuarantineDeviceResponse()

    async def ReleaseDevice(
        self, request: host_service_pb2.ReleaseDeviceRequest, _context: Context
    ) -> host_service_pb2.ReleaseDeviceResponse:
        """Its past is forgiven; what is wrong with it now still keeps jobs away."""
        device = _named(request.device, await self._world.devices())
        await self._quarantine.end(device.id)
        await asyncio.to_thread(self._inventory.release, device.id)
        self._dispatcher.wake()
        return host_service_pb2.ReleaseDeviceResponse()

    async def ListProjects(
        self, _request: host_service_pb2.ListProjectsRequest, _context: Context
    ) -> host_service_pb2.ListProjectsResponse:
        """Who holds, waits for and has had how much."""
        snapshot = await self._world.snapshot()
        return host_service_pb2.ListProjectsResponse(projects=_projects(snapshot, self._queue.active()))

    def _entry(self, job: Job, devices: Sequence[Device]) -> host_service_pb2.QueuedJob:
        entry = host_service_pb2.QueuedJob(
            job=job.id,
            name=job.name,
            project=job.project,
            priority=job.priority,
            devices=job.resolved.resources.gpus or 1,
            bytes_per_device=job.estimate.reserve_bytes if job.estimate else 0,
        )
        entry.queue_time.FromNanoseconds(int((job.queue_time or job.create_time) * 1e9))
        if forecast := self._outlook.of(job.id):
            entry.forecast.CopyFrom(wire.to_proto(forecast, job_pb2.Forecast))
        if duration := self._world.duration(job, devices):
            entry.duration.CopyFrom(wire.to_proto(duration, job_pb2.Duration))
        return entry


def _named(text: str, devices: Sequence[Device]) -> Device:
    """The device with this id, or with this label as people see it. Raises DeviceNotFound."""
    for device in devices:
        if text == device.id or text.casefold() == device.label.casefold():
            return device
    raise DeviceNotFound(text, [f"{device.label} ({device.id})" for device in devices])


def _device(device: Device, snapshot: Snapshot, sensors: Sensors) -> host_service_pb2.Device:
    holdings = [holding for holding in snapshot.holding if device.id in holding.devices]
    message = host_service_pb2.Device(
        id=device.id,
        kind=_KINDS[device.kind],
        name=device.name,
        index=device.index,
        total_bytes=device.total_bytes,
        used_bytes=device.used_bytes,
        reserved_bytes=sum(holding.reserved_bytes for holding in holdings),
        utilization_percent=sensors.utilization_percent,
        temperature_celsius=sensors.temperature_celsius,
        power_watts=sensors.power_watts,
        unfit=device.unfit,
        max_jobs=device.max_jobs or 0,
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


def _projects(snapshot: Snapshot, jobs: Sequence[Job]) -> Iterator[host_service_pb2.ProjectUse]:
    """Each project that has jobs, usage, a weight or a quota."""
    policy, usage = snapshot.policy, snapshot.usage
    names = {job.project for job in jobs} | usage.keys() | policy.weights.keys() | policy.quotas.keys()
    had = sum(usage.values())
    for name in sorted(names):
        holdings = [holding for holding in snapshot.holding if holding.project == name and holding.ask.kind == "gpu"]
        message = host_service_pb2.ProjectUse(
            project=name,
            weight=policy.weights.get(name, 1.0),
            usage=usage.get(name, 0.0),
            usage_share=usage.get(name, 0.0) / had if had else 0.0,
            running_jobs=sum(holding.project == name for holding in snapshot.holding),
            queued_jobs=sum(job.project == name and job.state is JobState.QUEUED for job in jobs),
            devices=sum(holding.ask.devices for holding in holdings),
            memory_bytes=sum(holding.ask.devices * holding.ask.bytes_per_device for holding in holdings),
        )
        if quota := policy.quotas.get(name):
            message.quota.CopyFrom(_quota(quota))
        yield message


def _quota(quota: Quota) -> host_service_pb2.Quota:
    return host_service_pb2.Quota(
        devices=quota.devices, memory_bytes=quota.memory_bytes, running=quota.running, queued=quota.queued
    )
