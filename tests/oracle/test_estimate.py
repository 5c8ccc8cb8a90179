"""The estimate beside real training steps on fake tensors: a few of the table; `make oracle` tries it all."""

from __future__ import annotations

import pytest

# It imports the whole training stack, which is worth it once for all cases; so do the other tests of trainers.
from tests.oracle.compare import compare
from tests.oracle.configurations import Configuration

# Percent.
WORST = 2.0
CASES = [
    Configuration("Llama-3-8B", "lora", length=2048),
    Configuration("Llama-3-8B", "qlora"),
    Configuration("Mistral-7B", "full", batch=2),
    Configuration("SmolLM2-135M", "lora", batch=4, recompute=False),
    Configuration("SmolLM2-135M", "lora", batch=4, recompute=False, padding_free=False),
    Configuration("Phi-3-mini", "full", recompute=False),
    Configuration("Qwen3-4B", "lora", "dpo"),
    Configuration("SmolLM2-135M", "full", "grpo", batch=4),
    Configuration("Llama-3-8B", "lora", "kto", batch=2),
    Configuration("Qwen2.5-0.5B", "full", "reward", batch=2),
    Configuration("Llama-3-8B", "lora", "orpo", batch=2),
    Configuration("Llama-3-8B", "qlora", "cpo", batch=2),
    Configuration("Pythia-1B", "lora", loss="logits"),
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("each", CASES, ids=lambda each: each.name)
def test_the_estimate_meets_the_step(each: Configuration) -> None:
    assert abs(compare(each).error_percent) <= WORST
