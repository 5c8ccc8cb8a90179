"""One training of prepared rows, ours or a plain TRL script's, in a process of its own; prints its figures as JSON.

Both have the same rows, order, batch, optimizer and threads; everything else is ours, or what TRL does by itself. What
a script must say on a CPU is said: arithmetic in fp32, nothing recomputed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="PASSIVE")

RATE = 2e-4


def main(who: str, stage: str, model: str, prepared: str, folder: str, steps: str, rows: str) -> None:
    from transformers import TrainerCallback

    build = ours if who == "ours" else plain
    trainer = build(stage, Path(model), Path(prepared), Path(folder), int(steps), int(rows))
    wall: list[float] = []
    busy: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.on_step_end()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wall.append(time.perf_counter())
            busy.append(time.process_time())

    trainer.add_callback(Clock())
    trainer.train()
    told = [entry for entry in trainer.state.log_history if "loss" in entry]
    figures = {
        "seconds": [after - before for before, after in pairwise(wall)],
        "busy": [after - before for before, after in pairwise(busy)],
        "losses": [entry["loss"] for entry in told],
        "tokens": [entry["num_tokens"] for entry in told],
        "peak": peak_bytes(),
    }
    print(json.dumps(figures))


def ours(stage: str, model: Path, prepared: Path, folder: Path, steps: int, rows: int) -> Any:
    """Our trainer as the daemon's defaults have it."""
    from tests.support import training as support

    from fttrain import recipe
    from fttrain.report import Report

    changes = f"optimizer {{ learning_rate: {RATE} }} schedule {{ max_steps: {steps} }}"
    changes += f"batch {{ micro_batch: {rows} global_batch: {rows} }} data {{ max_length: 512 }}"
    message = support.bootstrap(folder, support.resolved_spec(model, stage, changes=changes), prepared)
    trainer, _ = recipe.build_trainer(message, recipe.load_rows(message), Report(None, 1))
    return trainer


def plain(stage: str, model: Path, prepared: Path, folder: Path, steps: int, rows: int) -> Any:
    """TRL's trainer as its documentation has it, but for the rows, which are tokenised already."""
    from datasets import load_from_disk
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    class Tokenised(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    trainer, config = (Tokenised, DPOConfig) if stage == "dpo" else (SFTTrainer, SFTConfig)
    return trainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=config(
            output_dir=str(folder),
            max_length=512,
            learning_rate=RATE,
            max_steps=steps,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            per_device_train_batch_size=rows,
            optim="adamw_torch",
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=load_from_disk(str(prepared / "train")),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"),
    )


def peak_bytes() -> int:
    """The most memory that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
