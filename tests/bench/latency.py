"""From the trainer's step to a subscriber's hands, through journal, doorbell, daemon and stream."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.bench import table
from tests.support.daemon import Daemon

STEPS = 400


def main() -> None:
    table.title(f"step to subscriber, {STEPS} steps, one each 10 ms")
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        job = daemon.submit({"steps": STEPS, "step_seconds": 0.01})
        delays = []
        for message in daemon.stream(job):
            now = time.time()
            delays += [now - event.time.ToNanoseconds() / 1e9 for event in message.events if event.HasField("step")]
    table.line("p50", table.percentile(delays, 0.5) * 1000, "ms")
    table.line("p99", table.percentile(delays, 0.99) * 1000, "ms")
