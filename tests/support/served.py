"""A real daemon with the fake trainer, and a fake one that cuts streams, for tests in other languages.

    python -m tests.support.served

Writes {"address", "cutting", "job", "records"} as one line, then does what each line of JSON on its standard input
says, and answers each with a line:

    {"do": "spec", "script": {…}, "fields": {…}}         a JobSpec in JSON, see `Daemon.spec`
    {"do": "kill"}, {"do": "stop"}, {"do": "start"}      to the daemon
    {"do": "cut", "after": [3, 0], "code": "CANCELLED"}  the fake one cuts its next streams after so many records

Ends with its standard input, and leaves nothing running.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, log_lines, training_events
from tests.support.daemon import Daemon

STEPS = 10


def obey(said: dict[str, Any], daemon: Daemon, cutting: FakeDaemon) -> dict[str, Any]:
    """Does one thing; its answer."""
    match said["do"]:
        case "spec":
            return json_format.MessageToDict(daemon.spec(said.get("script"), **said.get("fields", {})))
        case "kill":
            daemon.kill()
        case "stop":
            daemon.stop()
        case "start":
            daemon.start()
        case "cut":
            cutting.cuts.extend(said["after"])
            cutting.cut_code = grpc.StatusCode[said["code"]]
        case unknown:
            raise ValueError(f"nothing is called {unknown!r}")
    return {}


def finished_job(cutting: FakeDaemon) -> str:
    """A job of the fake daemon that has ended, with all it reported; its id."""
    made = job("SUCCEEDED", step=STEPS)
    cutting.jobs[made.id] = made
    cutting.events[made.id] = training_events(STEPS)
    cutting.log_lines[made.id] = log_lines(STEPS)
    return made.id


def say(answer: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serves until the standard input ends."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Daemon(root / "real") as daemon, FakeDaemon(root / "cutting.sock") as cutting:
            ended = finished_job(cutting)
            records = len(cutting.events[ended])
            addresses = {"address": f"unix:{daemon.socket}", "cutting": cutting.address}
            say({**addresses, "job": ended, "records": records})
            for line in sys.stdin:
                say(obey(json.loads(line), daemon, cutting))


if __name__ == "__main__":
    # Whoever started this may be gone; the group is its own, so that Ctrl-C reaches it by its closed input only.
    os.setpgrp()
    main()
