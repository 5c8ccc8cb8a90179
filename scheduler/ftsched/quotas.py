"""What a project may hold at once, and what it holds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ftsched.model import Ask, Quota, Snapshot, Waiting


@dataclass(slots=True)
class Held:
    """What the running jobs of a project hold together, devices and memory of GPUs."""

    devices: int = 0
    memory_bytes: int = 0
    jobs: list[str] = field(default_factory=list)

    def add(self, job: str, ask: Ask) -> None:
        """Counts one more job."""
        gpus, memory = _gpus(ask)
        self.devices += gpus
        self.memory_bytes += memory
        self.jobs.append(job)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a job would break: the most, what the project's running `jobs` hold of it, what the job adds."""

    what: str
    limit: int
    held: int
    more: int
    jobs: tuple[str, ...]


class Quotas:
    """The projects' quotas during one plan."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._quotas: Mapping[str, Quota] = snapshot.policy.quotas
        self._held: dict[str, Held] = {project: Held() for project in self._quotas}
        for holding in snapshot.holding if self._quotas else ():
            if held := self._held.get(holding.project):
                held.add(holding.job, holding.ask)

    def take(self, job: Waiting) -> None:
        """The job was started."""
        if held := self._held.get(job.project):
            held.add(job.job, job.ask)

    def over(self, job: Waiting) -> Excess | None:
        """The first limit that the job would break."""
        quota = self._quotas.get(job.project)
        if quota is None:
            return None
        held = self._held[job.project]
        gpus, memory = _gpus(job.ask)
        for what, limit, now, more in (
            ("jobs", quota.running, len(held.jobs), 1),
            ("gpus", quota.devices, held.devices, gpus),
            ("bytes", quota.memory_bytes, held.memory_bytes, memory),
        ):
            if limit is not None and more and now + more > limit:
                return Excess(what, limit, now, more, tuple(held.jobs))
        return None


def _gpus(ask: Ask) -> tuple[int, int]:
    """GPUs and their memory; a job on the CPU counts as a running job only."""
    return (ask.devices, ask.devices * ask.bytes_per_device) if ask.kind == "gpu" else (0, 0)
