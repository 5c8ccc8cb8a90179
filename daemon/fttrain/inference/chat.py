"""Answers questions at a socket in the run directory until it is stopped, or nobody has asked anything for a while.

One question at a time: others wait in the socket's line, which the daemon keeps short. The model is loaded once, and
remembers nothing between two questions. It must never write an output.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import chat_service_pb2, event_pb2
from fttrain import machine
from fttrain.inference import frames
from fttrain.inference.answering import Answerer, CannotAnswer, Left
from fttrain.model import load_adapted, load_tokenizer
from fttrain.rank import stops
from fttrain.report import Report

NAME = "chat.sock"
# How often it looks whether it is to stop, and how long a peer may keep it waiting.
_LOOK_SECONDS = 0.2
_PEER_SECONDS = 10.0
_WAITING = 16


def run(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Answers until it is over. Raises Refused and whatever the libraries raise."""
    spec = bootstrap.spec
    machine.set_up(bootstrap)
    with machine.measured(report):
        answerer = Answerer(spec, load_adapted(bootstrap), load_tokenizer(bootstrap))
        # Who can connect is answered: it listens when all is loaded.
        with _listening(Path(bootstrap.run_directory)) as listener:
            report.phase(event_pb2.PHASE_ANSWERING)
            _serve(listener, answerer, spec.chat.idle_seconds)
    outcome = event_pb2.OUTCOME_STOPPED if stops.asked else event_pb2.OUTCOME_COMPLETED
    return trainer_pb2.RankResult(outcome=outcome)


def _serve(listener: socket.socket, answerer: Answerer, idle_seconds: float) -> None:
    asked = time.monotonic()
    while not stops.asked and time.monotonic() - asked < idle_seconds:
        try:
            peer, _ = listener.accept()
        except TimeoutError:
            continue
        with peer:
            peer.settimeout(_PEER_SECONDS)
            # Who asked has gone, or the job is to stop.
            with suppress(OSError, DecodeError, Left):
                _answer(peer, answerer)
        asked = time.monotonic()


def _answer(peer: socket.socket, answerer: Answerer) -> None:
    request = frames.receive(peer, chat_service_pb2.GenerateRequest())

    def tell(part: chat_service_pb2.GenerateResponse) -> None:
        frames.send(peer, trainer_pb2.ChatPart(answer=part))

    def left() -> bool:
        # Who asked says nothing more: what can be read is the end of the connection.
        return stops.asked or bool(select.select([peer], [], [], 0)[0])

    try:
        answerer.answer(request, tell, left)
    except CannotAnswer as error:
        frames.send(peer, trainer_pb2.ChatPart(refusal=str(error)))


@contextmanager
def _listening(folder: Path) -> Iterator[socket.socket]:
    """A socket at NAME in the folder; the one of an attempt that was killed goes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # By the folder's descriptor: a socket's path has at most 107 bytes, and ours may be longer.
    place = Path(f"/proc/self/fd/{descriptor}/{NAME}")
    try:
        place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            place.chmod(0o600)
            listener.listen(_WAITING)
            listener.settimeout(_LOOK_SECONDS)
            yield listener
    finally:
        place.unlink(missing_ok=True)
        os.close(descriptor)
