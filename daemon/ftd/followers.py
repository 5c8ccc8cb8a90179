"""The followers: a process for each tracker of a job that trains, started again a few times if it fails.

A follower reads the job's stream as any client does and outlives the daemon; its lock keeps a second one waiting. What
one does, or fails to do, never reaches the job.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import structlog

from ftd.files import read_file
from ftd.job import Job
from ftd.process import Process
from ftd.queue import Queue
from ftd.records import JobState
from ftd.rundir import RunDirectories
from ftd.secrets import SecretRefused, Secrets
from ftd.spec import choice_name
from ftd.trackers import Kind, TrackerState, TrackerStatus, secret_of

COMMAND = (sys.executable, "-m", "fttrack")
# Seconds until a follower that failed is started again; after the last one it is given up.
PAUSES = (0.0, 2.0, 10.0, 60.0, 300.0)
_STARTS = (JobState.STARTING, JobState.RUNNING)
_LONGEST_STATUS = 8192
# How a tracker's client finds a network that has a proxy or certificates of its own.
_OF_THE_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Followers:
    """Looks after the followers of all jobs; `group` holds what waits for them."""

    def __init__(
        self,
        queue: Queue,
        runs: RunDirectories,
        secrets: Secrets,
        socket: Path,
        group: asyncio.TaskGroup,
    ) -> None:
        self._queue = queue
        self._runs = runs
        self._secrets = secrets
        self._address = f"unix:{socket}"
        self._group = group
        self._open: set[tuple[str, str]] = set()
        queue.listen(self._heard)

    def begin(self) -> None:
        """Takes up the jobs that train already; a follower waits until the daemon serves. Call it once."""
        for job in self._queue.active():
            self._heard(job)

    def status(self, job: Job) -> list[TrackerStatus]:
        """How far each tracker of the job is; reads small files."""
        names = [choice_name(tracker.kind) for tracker in job.spec.trackers if tracker.kind]
        return [status for name in names if (status := self._status(job.id, name))]

    def _status(self, job_id: str, name: str) -> TrackerStatus | None:
        content = read_file(self._runs.get(job_id).path, f"trackers/{name}/status.json", _LONGEST_STATUS)
        try:
            found = json.loads(content or b"")
            state = TrackerState(found["state"])
            return TrackerStatus(name, state, str(found["message"]), int(found["seq"]), float(found["time"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _heard(self, job: Job) -> None:
        """Starts what is not there yet, as soon as a job trains."""
        if job.state not in _STARTS:
            return
        for tracker in job.spec.trackers:
            if tracker.kind and (key := (job.id, choice_name(tracker.kind))) not in self._open:
                self._open.add(key)
                self._group.create_task(self._follow(job.id, tracker.kind))

    async def _follow(self, job_id: str, kind: Kind) -> None:
        name = choice_name(kind)
        try:
            for pause in PAUSES:
                await asyncio.sleep(pause)
                if await self._run(job_id, kind):
                    return
        finally:
            self._open.discard((job_id, name))

    async def _run(self, job_id: str, kind: Kind) -> bool:
        """Starts a follower and waits for it; whether it has told everything."""
        name, secret = choice_name(kind), secret_of(kind)
        try:
            value = await asyncio.to_thread(self._secrets.read, secret) if secret else ""
            process = await asyncio.to_thread(self._start, job_id, kind, value)
        except (OSError, SecretRefused) as error:
            log.warning("a tracker's follower cannot be started", job=job_id, tracker=name, error=str(error))
            return False
        try:
            await process.ended()
        finally:
            process.close()
        status = await asyncio.to_thread(self._status, job_id, name)
        if status is not None and status.state is TrackerState.DONE:
            return True
        log.warning("a tracker failed", job=job_id, tracker=name, error=status.message if status else "")
        return False

    def _start(self, job_id: str, kind: Kind, secret: str) -> Process:
        folder = self._runs.get(job_id).path / "trackers" / choice_name(kind)
        # Not the run directory itself: a job that was deleted has none, and stays so.
        for each in (folder.parent, folder):
            each.mkdir(exist_ok=True)
        request = {
            "address": self._address,
            "job": job_id,
            "kind": choice_name(kind),
            "options": {name: value for name, value in asdict(kind).items() if value is not None},
            "folder": str(folder),
        }
        environment = {name: os.environ[name] for name in _OF_THE_NETWORK if name in os.environ}
        environment |= {"PATH": os.defpath, "HOME": str(folder), "FTTRACK_SECRET": secret}
        # What libraries print is for nobody, and has no bound; what went wrong stands in the status.
        with Path(os.devnull).open("wb") as nowhere:
            return Process.start(COMMAND, json.dumps(request).encode(), nowhere, environment, folder)
