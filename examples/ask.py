"""Asks a base model and its adapter the same questions: `python examples/ask.py MODEL ADAPTER "What is a keeper?" …`.

The base model is loaded once and answers with the adapter turned off, then on. Answers are greedy: the same question
has the same answer. With `--json` it prints one list of objects (question, base, tuned), which the demo reads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# The rows of the demo's data set begin with this turn.
SYSTEM = "You answer questions about finetuned."
LONGEST_ANSWER = 56


def main() -> None:
    """Reads the arguments, answers each question twice."""
    parser = argparse.ArgumentParser(description="Ask a base model and its adapter the same questions.")
    parser.add_argument("model", type=Path, help="folder of the base model")
    parser.add_argument("adapter", type=Path, help="output folder of a job with the method lora or qlora")
    parser.add_argument("question", nargs="+")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    answers = list(ask(options.model, options.adapter, options.question))
    if options.json:
        sys.stdout.write(json.dumps(answers))
        return
    for answer in answers:
        sys.stdout.write("\n".join(f"{who}: {text}" for who, text in answer.items()) + "\n\n")


def ask(model: Path, adapter: Path, questions: list[str]) -> Iterator[dict[str, str]]:
    """For each question what the base says and what the tuned model says."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1", OMP_WAIT_POLICY="PASSIVE")
    # Libraries that tell each other about renamed fields are of no interest to who asks.
    warnings.filterwarnings("ignore", category=FutureWarning)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    for question in questions:
        with tuned.disable_adapter():
            before = _answer(tuned, tokenizer, question)
        yield {"question": question, "base": before, "tuned": _answer(tuned, tokenizer, question)}


def _answer(model: Any, tokenizer: Any, question: str) -> str:
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**prompt, max_new_tokens=LONGEST_ANSWER, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    return str(tokenizer.decode(made[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


if __name__ == "__main__":
    main()
