"""Specs made from Python values are those of a spec file, and every stage and method of the contract has a builder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from finetuned.v1 import training_pb2
from ftclient import builders
from ftclient.builders import DPO, LoRA, training
from ftclient.specfile import from_mapping
from ftclient.stored import Dataset


@pytest.mark.parametrize("choice", ["stage", "method"])
def test_every_choice_of_the_contract_has_a_builder(choice: str) -> None:
    fields = training_pb2.TrainingSpec.DESCRIPTOR.oneofs_by_name[choice].fields
    kinds = get_args(getattr(builders, choice.title()))
    assert {kind.DESCRIPTOR for kind in kinds} == {field.message_type for field in fields}
    named = {name.lower() for name, value in vars(builders).items() if value in kinds}
    assert named == {field.name.replace("_", "") for field in fields}


def test_it_is_the_spec_that_a_file_would_be() -> None:
    made = training(
        model="models/base",
        data=["a.jsonl", Path("/b.jsonl")],
        eval_data="https://example.com/c.jsonl",
        stage=DPO(beta=0.2),
        method=LoRA(rank=8),
        epochs=2,
        max_steps=7,
        learning_rate=1e-4,
        micro_batch=2,
        global_batch=8,
        max_length=512,
        eval_split=0.1,
        seed=0,
    )
    assert made == from_mapping(
        {
            "model": {"path": "models/base"},
            "data": {
                "train": [{"path": "a.jsonl"}, {"path": "/b.jsonl"}],
                "eval": [{"path": "https://example.com/c.jsonl"}],
                "max_length": 512,
                "eval_split": 0.1,
            },
            "dpo": {"beta": 0.2},
            "lora": {"rank": 8},
            "schedule": {"epochs": 2, "max_steps": 7},
            "optimizer": {"learning_rate": 1e-4},
            "batch": {"micro_batch": 2, "global_batch": 8},
            "seed": 0,
        }
    )


def test_what_is_left_out_is_left_to_the_daemon() -> None:
    assert training(model="/m", data="/d.jsonl") == from_mapping(
        {"model": {"path": "/m"}, "data": {"train": ["/d.jsonl"]}}
    )


def test_an_uploaded_data_set_is_meant_by_its_name() -> None:
    uploaded = Dataset(name="rows", sha256="0" * 64, bytes=1, file="r.jsonl", create_time=datetime.now(UTC), jobs=0)
    (source,) = training(model="/m", data=uploaded).training.data.train
    assert (source.dataset, source.path) == ("rows", "")


def test_a_mistake_is_told_when_it_is_made() -> None:
    wrong: Any = LoRA(rank=8)
    with pytest.raises(TypeError, match="is no stage; accepted: sft, pretrain"):
        training(model="/m", data="/d", stage=wrong)
    with pytest.raises(ValueError, match='no "r" field'):
        LoRA(r=8)  # type: ignore[call-arg]
