"""The story of a follower: wait for the one before, open the tracker, tell it what happens, close it.

A lock on its folder keeps it to one follower at a time, so a daemon may start one without knowing whether that of the
daemon before still runs. It ends by itself when the job has ended, or when the tracker cannot be told.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftclient import Client
from ftclient.enums import JobState
from fttrack import trackers
from fttrack.run import Run, Tracker, figures
from fttrack.status import StatusFile

# A tracker that has not taken the end of a job by then never will.
CLOSE_SECONDS = 120.0
HUNG = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be followed, and whom it is told."""

    address: str
    job: str
    # A name in `trackers.KINDS`, and what its message in the contract says.
    kind: str
    options: Mapping[str, Any]
    folder: Path
    secret: str = ""


def follow(request: Request) -> None:
    """Tells the tracker everything until the job has ended. Raises what the tracker or the client raises."""
    request.folder.mkdir(parents=True, exist_ok=True)
    with _alone(request.folder), Client(request.address) as client:
        status = StatusFile(request.folder)
        try:
            _tell(client, request, status)
        except Exception as error:
            status.write("failed", told(error, request.secret))
            raise


def _tell(client: Client, request: Request, status: StatusFile) -> None:
    run = Run.of(client.get(request.job), request.folder)
    status.write("following", "")
    tracker = trackers.KINDS[request.kind](run, request.options, request.secret)
    status.write("following", tracker.place)
    for event in client.metrics(request.job, after_seq=status.now.seq):
        if found := figures(event):
            step, values = found
            tracker.log(step, event.time.timestamp(), values)
        status.seen(event.seq)
    _close(tracker, client.get(request.job).state, status)
    status.write("done", tracker.place)


def _close(tracker: Tracker, state: JobState, status: StatusFile) -> None:
    """Tells the end; a tracker that hangs in it takes this process along, and nothing else."""

    def give_up() -> None:
        status.write("failed", f"did not take the end of the job within {CLOSE_SECONDS:g} s")
        os._exit(HUNG)

    timer = threading.Timer(CLOSE_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    tracker.close(state)
    timer.cancel()


def told(error: BaseException, secret: str) -> str:
    """An error in a line, without the secret that libraries like to quote."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(secret, "***") if secret else text


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
