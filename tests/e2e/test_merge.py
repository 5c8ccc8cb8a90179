"""Adapters merged into the weights they were trained on, quantised ones included: the model says the same as before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from fttrain.export import merge

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOKENS = torch.tensor([[1, 520, 198, 30, 411, 9, 2, 77, 5, 1000, 12]])
QUANTISED = {
    "nf4": BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    ),
    "fp4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype=torch.float32),
}
LORA: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora and a trained head": {"use_rslora": True, "modules_to_save": ["lm_head"]},
}
KINDS = [(None, each) for each in LORA] + [(each, "lora") for each in QUANTISED]


def adapted(folder: Path, quantised: str | None, lora: str) -> Any:
    """The model with an adapter that has learnt something, its folder gone."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=QUANTISED.get(quantised or "")
    )
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=targets, **LORA[lora]))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
        elif parameter.requires_grad and "lm_head" in name:
            parameter.data += 0.01
    shutil.rmtree(folder)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True` and a tied layer")
@pytest.mark.filterwarnings("ignore:Input and output embeddings are no longer tied")
@pytest.mark.parametrize(("quantised", "lora"), KINDS, ids=[" ".join(filter(None, kind)) for kind in KINDS])
def test_the_merged_model_says_what_the_adapted_one_said(
    quantised: str | None, lora: str, smol_nano: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(smol_nano, tmp_path / "base")
    model = adapted(base, quantised, lora)
    before = logits(model)
    plain = logits(AutoModelForCausalLM.from_pretrained(smol_nano, dtype=torch.float32))
    made = merge.merged(model, torch.float32)
    after = logits(made)
    assert (after - before).abs().max() < 2e-4 < 0.1 < (after - plain).abs().max()

    made.save_pretrained(tmp_path / "merged")
    read, loading = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert not hasattr(read.config, "quantization_config")
    assert torch.allclose(logits(read), after, atol=1e-5)
