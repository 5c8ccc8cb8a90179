from __future__ import annotations

import pytest

from ftd.limits import NAME
from ftd.methods import Lora, Qlora
from ftd.names import default_name
from ftd.spec import Model, TrainingSpec
from ftd.stages import Dpo, Sft


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Model(path="/models/SmolLM2-135M"), "dpo-qlora-smollm2-135m"),
        (Model(path="/models/My Model (v2)/"), "dpo-qlora-my-model-v2"),
        (Model(hub_id="owner/Qwen2.5_0.5B"), "dpo-qlora-qwen2.5_0.5b"),
        (Model(path="/runs/n94efm7ned/output", from_job="n94efm7ned"), "dpo-qlora-n94efm7ned"),
        (Model(path="/"), "dpo-qlora"),
        (Model(path="/模型"), "dpo-qlora"),
        (Model(path="/" + "x" * 100), "dpo-qlora-" + "x" * 53),
    ],
)
def test_a_name_says_what_is_done_to_which_model(model: Model, name: str) -> None:
    assert default_name(TrainingSpec(model=model, stage=Dpo(), method=Qlora())) == name
    assert NAME.test(name)


def test_a_name_that_is_cut_does_not_end_in_a_dash() -> None:
    name = default_name(TrainingSpec(model=Model(path="/" + "x" * 53 + "-y"), stage=Sft(), method=Lora()))
    assert name == "sft-lora-" + "x" * 53
