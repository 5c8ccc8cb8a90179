"""How long a person waits: for the command line, and for the first update of a job that has been given its device."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench import table

ROOT = Path(__file__).parents[2]
TIMES = 15
# The first needs nothing, the second what the commands are called, the third also YAML and the messages.
COMMANDS = ("ftctl version", "ftctl --help", "ftctl schema")
# Command lines of the same trade that are in the lock: they answer the same question.
OTHERS = ("hf version", "wandb --version", "mlflow --version")
# A rank's parts, in their order.
PARTS = ("interpreter", "import", "rows", "model", "trainer", "first step")
RANKS = 3


def main() -> None:
    command_line()
    first_step("smol-nano", "--nano")
    first_step("SmolLM2-135M")


def command_line() -> None:
    """Prints how long commands take, beside an interpreter that does nothing and what other tools' take."""
    table.title(f"start-up of the command line, median of {TIMES}")
    bare = _median([sys.executable, "-c", "pass"]) * 1000
    for command in COMMANDS:
        table.line(command, _median(_installed(command)) * 1000, "ms", "python -c pass", bare)
    key = {"COMP_WORDS": "ftctl can", "COMP_CWORD": "1", "_FTCTL_COMPLETE": "complete_bash"}
    table.line("a key pressed: ftctl can<TAB>", _median(_installed("ftctl"), key) * 1000, "ms", "python -c pass", bare)
    for command in OTHERS:
        table.line(command, _median(_installed(command)) * 1000, "ms", "python -c pass", bare)


def _installed(command: str) -> list[str]:
    """The command, with the program that stands beside this interpreter."""
    program, *words = command.split()
    return [str(Path(sys.executable).with_name(program)), *words]


def _median(command: list[str], environment: Mapping[str, str] | None = None) -> float:
    """Of TIMES runs, after one that fills the caches."""
    taken = [seconds(command, environment) for _ in range(TIMES + 1)]
    return statistics.median(taken[1:])


def seconds(command: list[str], environment: Mapping[str, str] | None = None) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=os.environ | (environment or {}), check=True, stdout=subprocess.DEVNULL)
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
