"""The whole answer to "why is this job where it is"."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ftctl import facts, output
from ftctl.show import attempts, memory
from ftctl.text import NOTHING, clock, forecast, takes

if TYPE_CHECKING:
    from ftclient import Explanation
    from ftclient.results import Forecast


def explanation(found: Explanation) -> None:
    """State, reason, forecast, place in the queue, then devices, memory and attempts."""
    job = found.job
    place = f", number {found.position} in the queue" if found.position else ""
    output.fields(
        ("Job", f"{job.id}  {job.name}"),
        ("State", f"{job.state}{place}"),
        ("Why", job.reason.message if job.reason else ""),
        ("Waits for", ", ".join(found.waits_for)),
        ("Starts", _starts(found.forecast)),
        ("Takes", takes(found.duration) if found.duration else ""),
        ("Its place", "\n".join(found.order)),
    )
    if found.devices:
        output.section("Devices now")
        rows = [[each.label, "yes" if each.fits else "no", each.message or NOTHING] for each in found.devices]
        output.table(["DEVICE", "FITS", "WHY"], rows)
    if job.estimate:
        memory.table(job.estimate, facts.peak(job), resident=facts.on_cpu(job))
    if job.attempts:
        attempts.table(job.attempts, {each.device: each.label for each in found.devices})


def _starts(when: Forecast | None) -> str:
    if when is None:
        return ""
    return f"{forecast(when, datetime.now(UTC))}, about {clock(when.expected)[:-3]}"
