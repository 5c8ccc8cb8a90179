"""Weights & Biases, online or as files for a later `wandb sync`. Nothing but the figures and the spec is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ftclient.enums import JobState
from fttrack.run import Run

# Seconds that the service has to answer before a run is given up.
_INIT_TIMEOUT = 60.0


class Wandb:
    """A run whose id is the job's: told twice, it goes on where it was."""

    def __init__(self, run: Run, options: Mapping[str, Any], secret: str) -> None:
        # Not a setting: a setting that is refused is quoted in the error.
        os.environ["WANDB_API_KEY"] = secret
        import wandb

        address = {"base_url": options["base_url"]} if "base_url" in options else {}
        settings = wandb.Settings(
            **address,
            console="off",
            disable_code=True,
            disable_git=True,
            init_timeout=_INIT_TIMEOUT,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
        )
        offline = bool(options.get("offline"))
        self._run = wandb.init(
            config=dict(run.config),
            dir=str(run.folder),
            entity=options.get("entity"),
            id=run.id,
            mode="offline" if offline else "online",
            name=run.name,
            project=options.get("project") or run.project,
            resume=None if offline else "allow",
            settings=settings,
            tags=[f"{key}={value}" for key, value in run.labels.items()],
        )
        self.place = str(run.folder / "wandb") if offline else str(self._run.url)

    def log(self, step: int, _time: float, values: Mapping[str, float]) -> None:
        """Into its own files; its own process sends them."""
        self._run.log(dict(values), step=step)

    def close(self, state: JobState) -> None:
        """Waits until everything is sent."""
        self._run.finish(exit_code=0 if state is JobState.SUCCEEDED else 1)
