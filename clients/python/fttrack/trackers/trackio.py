"""Trackio: its local table of runs, below the tracker's folder; `TRACKIO_DIR=… trackio show` opens it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ftclient.enums import JobState
from fttrack.run import Run


class Trackio:
    """A run in a database of its own."""

    def __init__(self, run: Run, options: Mapping[str, Any], _secret: str) -> None:
        # Read at its import.
        os.environ["TRACKIO_DIR"] = str(run.folder)
        import trackio

        self.place = str(run.folder)
        self._trackio = trackio
        trackio.init(
            project=options.get("project") or run.project,
            name=f"{run.name}-{run.id}",
            config=dict(run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(self, step: int, _time: float, values: Mapping[str, float]) -> None:
        """Adds a row."""
        self._trackio.log(dict(values), step=step)

    def close(self, _state: JobState) -> None:
        """Waits until everything is written."""
        self._trackio.finish()
