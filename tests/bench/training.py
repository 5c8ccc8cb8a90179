"""Our training speed against a plain TRL script: same model, rows, order, batch and threads, each in its own process.

The processes take turns, and the first steps of each are left out: they pay for the allocator and the caches.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import table
from tests.support import training as support
from tests.support.training import of_kind

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data" / "finetuned-qa.messages.jsonl"
STEPS, WARM_UP, TURNS = 30, 5, 2
CHANGES = f"schedule {{ max_steps: {STEPS} }} batch {{ micro_batch: 4 global_batch: 8 }}"


def main() -> None:
    table.title(f"training, smol-nano, LoRA, {STEPS} steps of 8 rows, median step")
    made = subprocess.run(
        [sys.executable, "examples/make_model.py", "--nano"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    model = Path(made.stdout.strip())
    ours, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(model, Path(folder) / "prepared")
        for turn in range(TURNS):
            ours += rank(model, prepared, Path(folder) / f"run-{turn}")
            plain += script(model, Path(folder) / f"plain-{turn}")
    table.line("a step", statistics.median(ours), "s")
    # More is better, so the ratio is that of speeds.
    speed, limit = 1 / statistics.median(ours), 1 / statistics.median(plain)
    table.line("speed", speed, "steps/s", "a plain TRL script", limit)


def rows() -> list[list[dict[str, str]]]:
    return [json.loads(line)["messages"] for line in DATA.read_text().splitlines()]


def prepare(model: Path, folder: Path) -> Path:
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    prepared = []
    for turns in rows():
        prompt = tokenizer.apply_chat_template(turns[:-1], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(turns, return_dict=False)
        prepared.append({"input_ids": whole, "labels": [-100] * len(prompt) + whole[len(prompt) :]})
    return support.prepare(folder, prepared)


def rank(model: Path, prepared: Path, run: Path) -> list[float]:
    """Seconds of each step of a rank."""
    spec = support.resolved_spec(model, changes=CHANGES)
    message = support.bootstrap(run, spec, prepared)
    message.threads = 0
    process = support.start_rank(message, OMP_WAIT_POLICY="PASSIVE")
    _, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(errors.decode())
    return [step.step_seconds for step in of_kind(support.events(run), "step")][WARM_UP:]


def script(model: Path, folder: Path) -> list[float]:
    """Seconds of each step of the plain script."""
    command = [sys.executable, "-m", "tests.bench.plain_trl", str(model), str(DATA), str(folder), str(STEPS)]
    ran = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    seconds: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return seconds[WARM_UP:]
