"""The user's hands in tests: the `ftctl` command, and a daemon whose trainings and preparations are the real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it printed to whom."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> str:
        """What it printed, if all was well."""
        assert self.code == 0, self.err
        return self.out


class RealDaemon(Daemon):
    """A daemon that prepares and trains for real; files, specs and models lie in its `root`."""

    def __init__(self, root: Path, model: Path, **sections: Any) -> None:
        trainer = {
            "rank_command": [sys.executable, "-m", "fttrain.train"],
            "prepare_command": [sys.executable, "-m", "fttrain.prepare"],
            "threads": 1,
            "stop_grace_seconds": 30.0,
        }
        super().__init__(root, trainer=trainer, **sections)
        # A copy, because a link would lead out of the folders the daemon may read.
        shutil.copytree(model, root / "smol-nano")

    @property
    def address(self) -> str:
        """Where it listens, as FTD_ADDRESS has it."""
        return f"unix:{self.socket}"

    def ftctl(self, *arguments: str, spec: str | None = None, typed: str = "") -> Said:
        """Runs `ftctl` in the root; `spec` becomes the file job.yaml there, `typed` is the standard input."""
        if spec is not None:
            (self.root / "job.yaml").write_text(spec)
        return ftctl(self.root, *arguments, typed=typed, FTD_ADDRESS=self.address)


def ftctl(folder: Path, *arguments: str, typed: str = "", **environment: str) -> Said:
    """Runs the installed command in a folder, as in a pipe; without FTD_ADDRESS it looks in the default places."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FTD_")}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ftctl")), *arguments],
        cwd=folder,
        env=inherited | {"NO_COLOR": "1"} | environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)
