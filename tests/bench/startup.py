"""How long a person waits for `ftctl version`, against an interpreter that does nothing."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import table

TIMES = 15


def main() -> None:
    table.title("start-up of the command line")
    ftctl = [str(Path(sys.executable).with_name("ftctl")), "version"]
    nothing = [sys.executable, "-c", "pass"]
    seconds(ftctl), seconds(nothing)
    ours = statistics.median(seconds(ftctl) for _ in range(TIMES))
    bare = statistics.median(seconds(nothing) for _ in range(TIMES))
    table.line("ftctl version", ours * 1000, "ms", "python -c pass", bare * 1000)


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin
