"""How far a tracker is, in a file that the daemon shows: the only thing a follower writes beside the tracker's own.

Written whole or not at all. A follower that is started again goes on behind the last event that stands here.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

NAME = "status.json"
# A status that only says that time goes by is written this often.
EVERY_SECONDS = 2.0
_LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Status:
    """`state` is following, done or failed; `seq` the last event told; `time` in seconds since the epoch."""

    state: str = "following"
    message: str = ""
    seq: int = 0
    time: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What the follower before has left; a new one if there is none, or none that can be read."""
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            return cls(str(found["state"]), str(found["message"]), int(found["seq"]), float(found["time"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


class StatusFile:
    """The status of one follower, in memory and on disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self.now = Status.read(folder)

    def seen(self, seq: int) -> None:
        """An event was told."""
        self.now = replace(self.now, seq=seq)
        if time.time() - self.now.time >= EVERY_SECONDS:
            self.write("following", self.now.message)

    def write(self, state: str, message: str) -> None:
        """Says it at once."""
        shown = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
        self.now = replace(self.now, state=state, message=shown, time=time.time())
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self.now)), encoding="utf-8")
        part.replace(self._path)
