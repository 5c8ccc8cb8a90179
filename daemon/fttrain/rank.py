"""One rank from its first byte to its last word: reads the Bootstrap, runs a body, writes rank-<r>.json, exits.

`python -m fttrain.train` and the preparation are bodies. A rank exits 0 when it completed or was asked to stop, 1 when
it failed, and never without a RankResult on disk first. It must never import torch: a stop request is honoured while
the libraries are still being imported.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain.failure import Refused, classify
from fttrain.files import write_message
from fttrain.journal import JournalWriter
from fttrain.report import Report

Body = Callable[[trainer_pb2.Bootstrap, Report], trainer_pb2.RankResult]


def run(body: Body) -> NoReturn:
    """Runs `body` as this process's whole life. It answers with an outcome; what the report knows is added."""
    bootstrap = trainer_pb2.Bootstrap.FromString(sys.stdin.buffer.read())
    rank = number()
    stops.watch(attempt_folder(bootstrap) / "stop.json")
    result = _last_word(body, bootstrap, rank)
    write_message(attempt_folder(bootstrap) / f"rank-{rank}.json", result)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: exit handlers of collective libraries may wait for ranks that are gone.
    os._exit(1 if result.outcome == event_pb2.OUTCOME_FAILED else 0)


def _last_word(body: Body, bootstrap: trainer_pb2.Bootstrap, rank: int) -> trainer_pb2.RankResult:
    report = Report(None, bootstrap.attempt, trial=bootstrap.probe)
    try:
        if rank == 0:
            report = Report(
                JournalWriter(Path(bootstrap.run_directory) / "events.journal"),
                bootstrap.attempt,
                trial=bootstrap.probe,
            )
        result = body(bootstrap, report)
    # Whatever it is, SystemExit of a library included, the keeper must be told.
    except BaseException as error:
        # A refusal says all there is in its message: a trace in the user's log would only bury it.
        if not isinstance(error, Refused):
            traceback.print_exc()
        result = trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_FAILED, failure=classify(error, rank))
    result.rank = rank
    result.checkpoint = report.last_checkpoint
    result.peak_memory_bytes = max(result.peak_memory_bytes, report.peak_memory_bytes)
    result.step_seconds = report.step_seconds
    result.time.FromNanoseconds(time.time_ns())
    return result


def number() -> int:
    """This process's rank, from 0; the keeper sets RANK."""
    return int(os.environ.get("RANK", "0"))


def attempt_folder(bootstrap: trainer_pb2.Bootstrap) -> Path:
    """runs/<job>/attempts/<n>, which the keeper made."""
    return Path(bootstrap.run_directory) / "attempts" / str(bootstrap.attempt)


class StopRequests:
    """Whether this process was asked to stop or to save. One per process: a signal has one handler in each."""

    def __init__(self) -> None:
        self._request = Path()
        self._asked = False
        self._wants_checkpoint = False

    def watch(self, request: Path) -> None:
        """From here on SIGUSR1 asks to stop, and so does a request that was written before we could be signalled.

        SIGUSR2 asks for a checkpoint.
        """
        self._request = request
        self._wants_checkpoint = False
        signal.signal(signal.SIGUSR1, lambda *_: self.ask())
        signal.signal(signal.SIGUSR2, lambda *_: self.ask_for_checkpoint())
        self._asked = request.exists()

    def ask(self) -> None:
        """Asks to stop, as SIGUSR1 does."""
        self._asked = True

    def ask_for_checkpoint(self) -> None:
        """Asks for a checkpoint at the end of this step, as SIGUSR2 does."""
        self._wants_checkpoint = True

    def take_checkpoint(self) -> bool:
        """Whether a checkpoint was asked for since this was called last. All ranks go by what rank 0 has heard."""
        wanted, self._wants_checkpoint = self._wants_checkpoint, False
        return wanted and number() == 0

    @property
    def asked(self) -> bool:
        """Stop at the end of this step."""
        return self._asked

    @property
    def save(self) -> bool:
        """Save a checkpoint first. Without a readable request the host is going down: save."""
        return self._read().save

    @property
    def keep(self) -> bool:
        """Write the output, too, of the step it stops at."""
        return self._read().keep

    def _read(self) -> trainer_pb2.StopRequest:
        try:
            return json_format.Parse(self._request.read_text(), trainer_pb2.StopRequest())
        except (OSError, json_format.ParseError):
            return trainer_pb2.StopRequest(save=True)


stops = StopRequests()
