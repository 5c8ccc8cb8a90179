"""TensorBoard: event files, by its own writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftclient.enums import JobState
from fttrack.run import Run


class TensorBoard:
    """A folder of event files; each follower adds one."""

    def __init__(self, run: Run, options: Mapping[str, Any], _secret: str) -> None:
        # Imported where it is needed: it takes a second.
        from tensorboard.summary import Writer

        given = options.get("directory")
        folder = Path(given) / f"{run.name}-{run.id}" if given else run.folder / "events"
        self.place = str(folder)
        self._writer = Writer(str(folder))

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """On disk when it returns: a follower that is started again does not repeat it."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, wall_time=time)
        self._writer.flush()

    def close(self, _state: JobState) -> None:
        """Closes the file."""
        self._writer.close()
