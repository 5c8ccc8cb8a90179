"""How long a person waits: for `ftctl version`, and for the first update of a job that has been given its device."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import table

ROOT = Path(__file__).parents[2]
TIMES = 15
# A rank's parts, in their order.
PARTS = ("interpreter", "import", "rows", "model", "trainer", "first step")
RANKS = 3


def main() -> None:
    table.title("start-up of the command line")
    ftctl = [str(Path(sys.executable).with_name("ftctl")), "version"]
    nothing = [sys.executable, "-c", "pass"]
    seconds(ftctl), seconds(nothing)
    ours = statistics.median(seconds(ftctl) for _ in range(TIMES))
    bare = statistics.median(seconds(nothing) for _ in range(TIMES))
    table.line("ftctl version", ours * 1000, "ms", "python -c pass", bare * 1000)
    first_step("smol-nano", "--nano")
    first_step("SmolLM2-135M")


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def first_step(name: str, *options: str) -> None:
    """Prints the parts of the time from a rank's start to the end of its first update, four rows of LoRA."""
    table.title(f"from STARTING to the end of the first step, {name}, median of {RANKS}")
    command = [sys.executable, "examples/make_model.py", *options]
    model = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        prepared = _prepare(model, Path(folder) / "prepared")
        ranks = [_rank(model, prepared, Path(folder) / str(turn)) for turn in range(RANKS)]
    for part in PARTS:
        table.line(part, statistics.median(rank[part] for rank in ranks), "s")
    table.line("all", statistics.median(sum(rank.values()) for rank in ranks), "s")


def _prepare(model: str, folder: Path) -> Path:
    from tests.support import training
    from transformers import AutoTokenizer

    return training.prepare(folder, training.sft_rows(AutoTokenizer.from_pretrained(model)))


def _rank(model: str, prepared: Path, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.first_step", str(time.time()), model, str(prepared), str(folder)]
    ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    parts: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return parts


if __name__ == "__main__":
    main()
