"""What a finished training leaves: an adapter merged, in shards and as GGUF, how the training went, and its card."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.support import training as support
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetuned.v1 import event_pb2
from fttrain import manifest
from fttrain.export import modelfile
from fttrain.failure import Refused, classify

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

MERGED = f"""
schedule {{ max_steps: 2 warmup_ratio: 0 }}
output {{ merge: true dtype: DTYPE_FP32 max_shard_bytes: {16 << 20} }}
output {{ gguf: [GGUF_TYPE_Q8_0, GGUF_TYPE_F16] ollama: true }}
"""


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[1, 520, 198, 30, 411, 9, 2]])).logits
    return found


def test_an_adapter_is_merged_and_exported(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    support.train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, changes=MERGED), rows["sft"]))
    output = tmp_path / "output"
    files = {path.name for path in output.iterdir()}
    assert {
        "questions.Q8_0.gguf",
        "questions.F16.gguf",
        "Modelfile",
        "trainer_log.jsonl",
        "trainer_state.json",
    } <= files
    assert "model-00001-of-00005.safetensors" in files
    assert all(path.stat().st_size < 17 << 20 for path in output.glob("model-*.safetensors"))
    manifest.verify(output)

    base = AutoModelForCausalLM.from_pretrained(smol_nano, dtype=torch.float32)
    merged = logits(AutoModelForCausalLM.from_pretrained(output))
    assert (logits(PeftModel.from_pretrained(base, output / "adapter")) - merged).abs().max() < 1e-4
    read = AutoModelForCausalLM.from_pretrained(output, gguf_file="questions.F16.gguf", dtype=torch.float32)
    assert (logits(read) - merged).abs().max() < 5e-3 * merged.abs().max()

    card = (output / "README.md").read_text()
    assert 'library_name: "transformers"' in card
    assert str(tmp_path) not in card
    state = json.loads((output / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == [1, 2]
    log = [json.loads(line) for line in (output / "trainer_log.jsonl").read_text().splitlines()]
    assert [(line["current_steps"], line["total_steps"]) for line in log] == [(1, 2), (2, 2)]


def test_the_modelfile_says_the_chat_template(smol_nano: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert modelfile.text("a.gguf", tokenizer) == (
        "FROM ./a.gguf\n"
        'TEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ else }}'
        f"<|im_start|>system\n{system}<|im_end|>\n"
        '{{ end }}{{ range .Messages }}{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}'
        '<|im_start|>assistant\n"""\n'
        'PARAMETER stop "<|im_end|>"\n'
    )


@pytest.mark.parametrize(
    "template",
    [
        # Only the last turn is rendered as it is; only some of the conversation is; none is taken.
        "{% for m in messages %}{{ m.content if loop.last else '-' }}{% endfor %}",
        "{{ messages[-1].content }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_cannot_be_said_is_left_out(template: str, smol_nano: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    tokenizer.chat_template = template
    assert "TEMPLATE" not in modelfile.text("a.gguf", tokenizer)


def test_what_cannot_be_exported_is_refused_before_the_first_step(
    smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in smol_nano.iterdir():
        (model / path.name).symlink_to(path)
    content = json.loads((smol_nano / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, content["pre_tokenizer"]]}
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").write_text(json.dumps(content))
    run = tmp_path / "run"
    message = support.bootstrap(run, support.resolved_spec(model, changes=MERGED), rows["sft"])
    with pytest.raises(Refused, match=r"output\.gguf: no GGUF file can be written of this model: its tokenizer splits"):
        support.train(message)
    assert support.steps(run) == []


def test_a_full_disk_leaves_no_half_output(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    message = support.bootstrap(tmp_path, support.resolved_spec(smol_nano, "sft", "full"), rows["sft"])
    message.spec.schedule.max_steps = 1
    message.output_path = str(disk / "output")
    try:
        with pytest.raises(Exception, match="No space left on device") as caught:
            support.train(message)
        assert classify(caught.value, 0).failure_class == event_pb2.FAILURE_CLASS_DISK_FULL
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
