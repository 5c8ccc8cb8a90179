"""From the trainer's step to a subscriber's hands, through journal, doorbell, daemon and stream."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench import table
from tests.support.daemon import Daemon

# A step each 10 ms is faster than the stream's pace of ten messages a second, so its delay is mostly that pace.
PACES = ((0.25, 40), (0.01, 400))


def main() -> None:
    for seconds, steps in PACES:
        table.title(f"step to subscriber, {steps} steps, one each {seconds * 1000:.0f} ms")
        delays = measured(seconds, steps)
        table.line("p50", table.percentile(delays, 0.5) * 1000, "ms")
        table.line("p99", table.percentile(delays, 0.99) * 1000, "ms")


def measured(seconds: float, steps: int) -> list[float]:
    """Seconds from each event's time to its arrival."""
    delays = []
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        job = daemon.submit({"steps": steps, "step_seconds": seconds})
        for message in daemon.stream(job):
            now = time.time()
            delays += [now - event.time.ToNanoseconds() / 1e9 for event in message.events if event.HasField("step")]
    return delays
