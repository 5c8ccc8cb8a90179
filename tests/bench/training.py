"""Our trainings beside plain TRL scripts: the same model, rows, order, batch and threads, each in its own process.

The processes take turns. The first step of each is left out: it pays for the allocator and the caches. On a machine
that others use as well, the processor's time says more than the clock's; both are printed, and the spread of turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import table

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TURNS = int(os.environ.get("BENCH_TURNS", "3"))


@dataclass(frozen=True, slots=True)
class Case:
    """A training, with TRL's own micro-batch of 8 for single answers, and 2 for the longer pairs."""

    name: str
    stage: str
    file: str
    steps: int
    rows: int


CASES = (
    Case("sft, alpaca", "sft", "alpaca_en_selfinstruct_seeds.json", 6, 8),
    Case("sft, sharegpt", "sft", "sharegpt_fastchat_dummy_en.json", 6, 8),
    # The first epoch: later ones know what the reference answers, and are faster.
    Case("dpo, alpaca pairs, first epoch", "dpo", "dpo_alpaca_pairs_en.json", 5, 2),
)


def main() -> None:
    made = subprocess.run(
        [sys.executable, "examples/make_model.py"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    model = Path(made.stdout.strip())
    for case in CASES:
        table.title(f"{case.name}: SmolLM2-135M, LoRA, fp32, {case.steps} steps of {case.rows} rows, {TURNS} turns")
        if not (DATA / case.file).is_file():
            print(f"  skipped: there is no ../shared/data/{case.file}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            compare(case, model, Path(folder))


def compare(case: Case, model: Path, folder: Path) -> None:
    """Prints what both did, ours beside TRL's."""
    prepared = prepare(case, model, folder / "preparation")
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": []}
    for turn in range(TURNS):
        for who, found in runs.items():
            found.append(run(who, case, model, prepared, folder / f"{who}-{turn}"))
    # TRL counts them itself: all of them that are not padding; of a pair, the prompt with both answers.
    counted = runs["plain"][0]["tokens"]
    tokens = counted[-1] - counted[0]
    for name, unit in (("seconds", "tokens/s"), ("busy", "tokens/cpu-s")):
        ours, plain = ([tokens / sum(each[name][1:]) for each in runs[who]] for who in ("ours", "plain"))
        table.line(f"real tokens, by {name}", statistics.median(ours), unit, "TRL", statistics.median(plain))
        ratios = [a / b for a, b in zip(ours, plain, strict=True)]
        print(f"    of single turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    peaks = [statistics.median(each["peak"] for each in runs[who]) / 2**30 for who in ("ours", "plain")]
    table.line("peak of the process", peaks[0], "GiB", "TRL", peaks[1])
    losses = [runs[who][0]["losses"] for who in ("ours", "plain")]
    table.line("loss after as many tokens", losses[0][-1], "", "TRL", losses[1][-1])
    apart = max(abs(a - b) / abs(b) for a, b in zip(*losses, strict=True))
    table.line("largest difference of a step's loss", apart, "relative")


def prepare(case: Case, model: Path, folder: Path) -> Path:
    """The rows as the daemon prepares them."""
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    from tests.support.preparation import order, prepared

    folder.mkdir()
    return Path(prepared(order(model, folder, DATA / case.file, stage=case.stage)).prepared_directory)


def run(who: str, case: Case, model: Path, prepared: Path, folder: Path) -> dict[str, Any]:
    """What a process told of its training."""
    words = [who, case.stage, model, prepared, folder, case.steps, case.rows]
    command = [sys.executable, "-m", "tests.bench.trainers", *map(str, words)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr)
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
