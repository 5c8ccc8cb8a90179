"""What a user of TRL would write: LoRA SFT on a file of conversations. Prints the seconds of each step as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", OMP_WAIT_POLICY="PASSIVE")


def main(model: str, data: str, folder: str, steps: str) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        # From end to end, so that loading and logging count, as they do for ours.
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.last)
            self.last += seconds[-1]

    turns = [json.loads(line)["messages"] for line in Path(data).read_text().splitlines()]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=SFTConfig(
            output_dir=folder,
            max_length=128,
            learning_rate=5e-3,
            max_steps=int(steps),
            per_device_train_batch_size=4,
            gradient_accumulation_steps=2,
            optim="adamw_torch",
            bf16=False,
            use_cpu=True,
            activation_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=42,
        ),
        train_dataset=Dataset.from_list([{"prompt": t[:-1], "completion": t[-1:]} for t in turns]),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    trainer.train()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
