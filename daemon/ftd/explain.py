"""What puts a waiting job at its place in the line, in words: the same facts by which `ftsched.order` sorts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ftsched.model import Snapshot, Waiting
from ftsched.order import Services, waited

HOUR = 3600.0


def order_of(job: Waiting, snapshot: Snapshot, now: float) -> Iterator[str]:
    """The facts, the strongest first."""
    yield f"priority {job.priority}"
    if job.front:
        yield "moved before all others of its priority"
    weight = snapshot.policy.weights.get(job.project, 1.0)
    had = sum(snapshot.usage.values())
    if had:
        share = snapshot.usage.get(job.project, 0.0) / had
        yield f"project {job.project}, of weight {weight:g}, has had {share:.0%} of what all projects had"
    service = Services(snapshot).of(job)
    known = "needs" if job.run_seconds is not None else "is taken to need"
    yield f"{known} {service / HOUR:.2f} device-hours"
    yield f"has waited {waited(job, now) / HOUR:.1f} hours"
