"""What is said of a model that several GPUs divide."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ftd.test_validate import CPU, GPU, spec

from ftd.spec import DeviceKind, Sharding
from ftd.validate import check

TWO: dict[str, Any] = {"training__resources__gpus": 2, "training__resources__sharding": "SHARDING_FULL_SHARD"}


def problems(device: DeviceKind = GPU, **changes: Any) -> dict[str, str]:
    return {each.field: each.description for each in check(spec(**changes), device)}


def test_every_word_is_taken_where_it_has_a_meaning() -> None:
    for word in Sharding:
        assert not problems(**{**TWO, "training__resources__sharding": f"SHARDING_{word.upper()}"})


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"training__resources__gpus": 1}, "training.resources.sharding", "there is one GPU"),
        ({"training__qlora": {}}, "training.qlora", "4-bit weights"),
        ({"training__output__merge": True}, "training.output.merge", "the whole of a model"),
        ({"training__optimizer__name": "adafactor"}, "training.optimizer.name", "adamw_torch"),
        ({"training__grpo": {}}, "training.grpo", "writes answers"),
    ],
)
def test_what_needs_the_whole_model_is_refused(changes: dict[str, Any], field: str, why: str) -> None:
    assert why in problems(**{**TWO, **changes})[field]


def test_nothing_is_divided_on_a_cpu() -> None:
    found = problems(CPU, training__resources__sharding="SHARDING_FULL_SHARD")
    assert "runs on the CPU" in found["training.resources.sharding"]
