"""Weights that a spec names: what a user reads when they are wrong, and what a folder of an adapter tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftd.adapters import lora_shape, read_folder, settle
from ftd.methods import Lora
from ftd.paths import Roots
from ftd.spec import DeviceKind, JobSpec, Model, TrainingSpec
from ftd.stages import Dpo
from ftd.validate import check
from ftd.weights import Resume, Weights

MODEL = Model(path="/m")
CONFIG = {"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], "use_rslora": True}


def problems(**training: Any) -> dict[str, str]:
    found = check(JobSpec(training=TrainingSpec(**training)), DeviceKind.CPU)
    return {each.field.removeprefix("training."): each.description for each in found if "data" not in each.field}


@pytest.mark.parametrize(
    ("training", "field", "text"),
    [
        ({}, "model.path", "is missing; accepted is the absolute path of a model folder, or a model.hub_id or"),
        ({"model": Model(path="/m", from_job="a")}, "model.from_job", "stands beside model.path; accepted is one"),
        ({"model": Model(hub_id="a/b", from_job="a")}, "model.from_job", "stands beside model.hub_id"),
        ({"model": Model(path="/m", revision="x")}, "model.revision", "without model.hub_id; accepted only with that"),
        ({"model": Model(path="/m", adapters=(Weights(),))}, "model.adapters[0].path", "is missing; accepted is the"),
        (
            {"model": Model(path="/m", adapters=(Weights("/a", "b"),))},
            "model.adapters[0].from_job",
            "stands beside model.adapters[0].path; accepted is one of the two",
        ),
        (
            {"model": Model(path="/m", adapters=(Weights("a"),))},
            "model.adapters[0].path",
            "is 'a'; accepted is an absolute path",
        ),
        (
            {"model": Model(path="/m", adapters=(Weights("/a", base_path="/b"),))},
            "model.adapters[0].base_path",
            "the adapter goes onto the training's own model; leave it out",
        ),
        (
            {"model": MODEL, "stage": Dpo(reference=Weights(from_job="j", base_path="/b"))},
            "dpo.reference.base_path",
            "stands beside from_job, whose job knows its base model; leave it out",
        ),
        (
            {"model": MODEL, "resume": Resume()},
            "resume.path",
            "is missing; accepted is the absolute path of a checkpoi",
        ),
        ({"model": MODEL, "resume": Resume("/c", "j")}, "resume.from_job", "stands beside resume.path"),
        (
            {"model": MODEL, "resume": Resume("/c", None, "checkpoint-1")},
            "resume.checkpoint",
            "without resume.from_job",
        ),
        ({"model": MODEL, "resume": Resume(from_job="")}, "resume.from_job", "is ''; accepted is the id, a prefix of"),
    ],
)
def test_each_mistake_says_what_is_accepted(training: dict[str, Any], field: str, text: str) -> None:
    assert text in problems(**training)[field]


def test_a_model_may_be_left_out_with_the_adapter_of_a_job_only() -> None:
    assert problems(method=Lora(continue_from=Weights(from_job="j"))) == {}
    assert "model.path" in problems(method=Lora(continue_from=Weights(path="/a")))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write(tmp_path / "models" / "adapter", CONFIG)


def write(folder: Path, config: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def settled(training: TrainingSpec, root: Path) -> tuple[TrainingSpec, dict[str, str]]:
    made, found = settle(training, {}, Roots((root / "models",)))
    return made, {each.field: each.description for each in found}


def test_the_adapter_that_is_gone_on_with_gives_the_shape(adapter: Path, tmp_path: Path) -> None:
    assert lora_shape(CONFIG).target_modules == ("q_proj",)
    continued = Weights(path=str(adapter))
    made, found = settled(TrainingSpec(model=MODEL, method=Lora(dropout=0.2, continue_from=continued)), tmp_path)
    assert found == {}
    assert isinstance(made.method, Lora)
    assert (made.method.rank, made.method.alpha, made.method.rslora, made.method.dropout) == (16, 32, True, 0.2)
    _, found = settled(TrainingSpec(model=MODEL, method=Lora(rank=8, continue_from=continued)), tmp_path)
    assert found == {"training.lora.rank": "is 8, and the adapter of continue_from has 16; leave it out"}


def test_an_adapter_as_a_reference_stands_on_the_own_model(adapter: Path, tmp_path: Path) -> None:
    made, found = settled(TrainingSpec(model=MODEL, stage=Dpo(reference=Weights(path=str(adapter)))), tmp_path)
    assert found == {}
    assert made.stage == Dpo(reference=Weights(path=str(adapter), base_path="/m"))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (None, "has neither adapter_config.json nor config.json"),
        ({}, "has an adapter_config.json without peft_type; accepted is what PEFT wrote"),
        ({"peft_type": "IA3"}, "is an adapter of the type IA3; accepted is LORA"),
    ],
)
def test_a_folder_that_is_no_adapter_to_go_on_with_is_told(
    config: dict[str, Any] | None, text: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "models" / "odd", config)
    _, found = settled(TrainingSpec(model=MODEL, method=Lora(continue_from=Weights(path=str(folder)))), tmp_path)
    assert found == {"training.lora.continue_from.path": text}


def test_a_model_is_no_adapter_and_nothing_outside_is_read(adapter: Path, tmp_path: Path) -> None:
    (adapter / "adapter_config.json").rename(adapter / "config.json")
    _, found = settled(TrainingSpec(model=Model(path="/m", adapters=(Weights(path=str(adapter)),))), tmp_path)
    text = "is the folder of a model; accepted is the folder of an adapter"
    assert found == {"training.model.adapters[0].path": text}
    outside = read_folder(str(tmp_path), Roots((tmp_path / "models",)))
    assert outside.problem.startswith("is outside the folders this host allows here")
    (adapter / "adapter_model.safetensors").unlink()
    assert read_folder(str(adapter), Roots((tmp_path,))).problem == "has no weights; accepted are *.safetensors files"
