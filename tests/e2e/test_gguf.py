"""GGUF files, read back by transformers: the same logits, the same tokens; and what no file is written of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from finetuned.v1 import training_pb2
from fttrain.export import gguf, vocabulary
from fttrain.failure import Refused

TEXTS = ["What is a queue?", "  Two  spaces, 2026 and 'll — naïve 世界 🎉\n\nend", "<|im_start|>user\nHi<|im_end|>\n"]
# Of the largest logit: what rounding every weight to this format may change.
ROUNDING = {"F32": 1e-5, "F16": 5e-3, "BF16": 5e-2, "Q8_0": 5e-2}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4100,
}


def kind(name: str) -> training_pb2.GgufType.ValueType:
    return training_pb2.GgufType.Value(f"GGUF_TYPE_{name}")


def written(folder: Path, target: Path, name: str = "F32") -> Path:
    config = AutoModelForCausalLM.from_pretrained(folder).config
    tokenizer = AutoTokenizer.from_pretrained(folder)
    gguf.check(config, tokenizer)
    gguf.write(folder, target, kind(name), config, tokenizer)
    return target


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([tokenizer(TEXTS[1])["input_ids"]])).logits
    return found


def assert_same(folder: Path, file: Path, tolerance: float) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before = logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), tokenizer)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    assert (logits(read, tokenizer) - before).abs().max() <= tolerance * before.abs().max()


@pytest.fixture
def random_model(smol_nano: Path, tmp_path: Path) -> Callable[[Any], Path]:
    def save(config: Any) -> Path:
        torch.manual_seed(0)
        folder = tmp_path / "model"
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        # New biases and norms are all 0 or 1, which hides a mistake.
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(smol_nano / name, folder / name)
        return folder

    return save


@pytest.mark.parametrize("name", list(ROUNDING))
def test_a_model_is_the_same_but_for_rounding(name: str, smol_nano: Path, tmp_path: Path) -> None:
    file = written(smol_nano, tmp_path / gguf.file_name("smol", kind(name)), name)
    assert file.name == f"smol.{name}.gguf"
    assert_same(smol_nano, file, ROUNDING[name])


def test_tokens_are_the_same(smol_nano: Path, tmp_path: Path) -> None:
    file = written(smol_nano, tmp_path / "smol.gguf", "Q8_0")
    before = AutoTokenizer.from_pretrained(smol_nano)
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    assert [read(text)["input_ids"] for text in TEXTS] == [before(text)["input_ids"] for text in TEXTS]
    assert (read.bos_token_id, read.eos_token_id) == (before.bos_token_id, before.eos_token_id)
    assert read.chat_template == before.chat_template


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(**SMALL, tie_word_embeddings=True),
        Qwen3Config(**SMALL, head_dim=128, tie_word_embeddings=False),
        LlamaConfig(**SMALL, attention_bias=True, rope_theta=500000.0),
    ],
    ids=["qwen2", "qwen3", "llama with biases"],
)
def test_each_family_is_read_as_it_was(config: Any, random_model: Callable[[Any], Path], tmp_path: Path) -> None:
    folder = random_model(config)
    if config.model_type != "llama":
        assert_same(folder, written(folder, tmp_path / "model.gguf"), 1e-4)
        return
    # The reader takes llama's biases for what they are not; that they are turned as the weights are is seen here.
    read = gguf_tensor(written(folder, tmp_path / "model.gguf"), "blk.0.attn_q.bias")
    bias = AutoModelForCausalLM.from_pretrained(folder).model.layers[0].self_attn.q_proj.bias.detach()
    assert torch.equal(read.view(4, 8, 2).swapaxes(1, 2).reshape(-1), bias)


def gguf_tensor(file: Path, name: str) -> torch.Tensor:
    from gguf import GGUFReader

    return next(torch.from_numpy(each.data.copy()) for each in GGUFReader(file).tensors if each.name == name)


def test_llama3s_scaling_of_frequencies_is_written(random_model: Callable[[Any], Path], tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(**SMALL, head_dim=64, rope_parameters=rope, max_position_embeddings=131072)
    factors = gguf_tensor(written(random_model(config), tmp_path / "model.gguf"), "rope_freqs.weight")
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / 500000.0 ** (torch.arange(0, 64, 2) / 64)
    assert torch.allclose(plain / factors, scaled, rtol=1e-5)
    assert factors.min() == 1
    assert factors.max() == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt_neox"}, "its type is gpt_neox; written are llama, mistral, qwen2, qwen3"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "its rotary positions are scaled by yarn"),
    ],
)
def test_what_readers_would_take_for_something_else_is_refused(
    changes: dict[str, Any], message: str, smol_nano: Path
) -> None:
    config = LlamaConfig(**SMALL)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(Refused, match=message):
        gguf.check(config, AutoTokenizer.from_pretrained(smol_nano))


@pytest.mark.parametrize(
    ("pre_tokenizer", "expected"),
    [
        ({"type": "ByteLevel"}, "gpt-2"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}]}, "smollm"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "PATTERN"}}]}, "qwen2"),
        ({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "."}}]}, None),
        ({"type": "Metaspace"}, None),
        (None, None),
    ],
)
def test_the_splitting_rule_is_named_or_refused(pre_tokenizer: dict[str, Any] | None, expected: str | None) -> None:
    pattern = next(pattern for pattern, name in vocabulary._SPLITS.items() if name == "qwen2")
    if pre_tokenizer and "pretokenizers" in pre_tokenizer:
        pre_tokenizer["pretokenizers"].append({"type": "ByteLevel"})
    text = json.dumps({"model": {"type": "BPE"}, "pre_tokenizer": pre_tokenizer})
    text = text.replace('"PATTERN"', json.dumps(pattern))
    tokenizer = SimpleNamespace(is_fast=True, backend_tokenizer=SimpleNamespace(to_str=lambda: text))
    if expected:
        assert vocabulary.splitting_rule(tokenizer) == expected
    else:
        with pytest.raises(Refused, match="splits words by a rule that GGUF readers have no name for"):
            vocabulary.splitting_rule(tokenizer)
