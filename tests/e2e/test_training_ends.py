"""How real trainings end: what the output is good for, and what is said when there is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.training import QUESTIONS, losses, train, turn

from finetuned.v1 import event_pb2
from fttrain.failure import Refused

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize(("method", "rate"), [("lora", 5e-3), ("full", 5e-4)])
def test_the_output_is_an_ordinary_folder(
    method: str,
    rate: float,
    smol_nano: Path,
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """It loads as any other, generates, has learned, and names nothing of this host."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = support.resolved_spec(smol_nano, "sft", method, f"optimizer {{ learning_rate: {rate} }}")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    output = tmp_path / "output"

    base = AutoModelForCausalLM.from_pretrained(smol_nano, dtype="float32")
    before = _loss(base, rows["sft"])
    tuned = PeftModel.from_pretrained(base, output) if method == "lora" else None
    tuned = tuned or AutoModelForCausalLM.from_pretrained(output, dtype="float32")
    assert _loss(tuned, rows["sft"]) < 0.7 * before

    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.chat_template
    prompt = tokenizer.apply_chat_template(
        turn("user", QUESTIONS[0][0]), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        answer = tuned.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]

    written = {path.name: path.read_bytes() for path in output.iterdir()}
    assert not [name for name, content in written.items() if str(smol_nano.parent).encode() in content]
    assert not [name for name, content in written.items() if str(tmp_path).encode() in content]
    card = written["README.md"].decode()
    for fact in ('base_model: "smol-nano"', "jabcdefghk", "questions.jsonl | sha256:5555", "last training loss", "trl"):
        assert fact in card


def _loss(model: Any, prepared: Path) -> float:
    import torch
    from datasets import load_from_disk

    with torch.no_grad():
        values = [
            model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()
            for row in load_from_disk(str(prepared / "train"))
        ]
    return sum(values) / len(values)


def test_a_loss_that_is_no_number_ends_the_training(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    changes = "optimizer { learning_rate: 1e30 max_grad_norm: 0 } schedule { warmup_ratio: 0 }"
    spec = support.resolved_spec(smol_nano, changes=changes)
    with pytest.raises(Refused, match=r"the loss became nan at step") as refused:
        train(support.bootstrap(tmp_path, spec, rows["sft"]))
    assert refused.value.failure_class == event_pb2.FAILURE_CLASS_LOSS_DIVERGED
    assert "learning_rate" in refused.value.advice
    assert math.isnan(losses(tmp_path)[-1])


def test_a_model_that_cannot_be_loaded_is_named(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    missing, torn, other = tmp_path / "missing", tmp_path / "torn", tmp_path / "other"
    for folder in (torn, other):
        folder.mkdir()
        for path in smol_nano.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    (torn / "model.safetensors").write_bytes((smol_nano / "model.safetensors").read_bytes()[:1000])
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"num_hidden_layers": 4', '"num_hidden_layers": 5'))

    said = {missing: "is not a readable model folder", torn: "torn cannot be loaded", other: "lack 9 tensors"}
    for number, (folder, message) in enumerate(said.items(), 1):
        spec = support.resolved_spec(folder)
        with pytest.raises(Refused, match=message) as refused:
            train(support.bootstrap(tmp_path, spec, rows["sft"], attempt=number))
        assert refused.value.failure_class == event_pb2.FAILURE_CLASS_MODEL_LOAD


def test_a_failed_rank_says_so_and_exits_1(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, support.resolved_spec(smol_nano), tmp_path / "gone")
    rank = support.start_rank(message)
    _, log = rank.communicate(timeout=60)
    assert rank.returncode == 1
    said = support.result(message)
    assert said.outcome == event_pb2.OUTCOME_FAILED
    assert "the prepared rows of this job cannot be read" in said.failure.message
    assert b"Traceback" not in log
