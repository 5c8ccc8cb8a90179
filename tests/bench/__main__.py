"""`make bench`: every benchmark, or those named: `python -m tests.bench startup planning submits ...`.

Read the ratios: both sides of each are measured in the same run, on the same machine.
"""

from __future__ import annotations

import sys

from tests.bench import latency, planning, startup, streams, submits, training

BENCHES = {
    "startup": startup.main,
    "planning": planning.main,
    "submits": submits.main,
    "latency": latency.main,
    "streams": streams.main,
    "training": training.main,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()
