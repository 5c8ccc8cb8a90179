from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from finetuned.v1.job_pb2 import JobSpec
from finetuned.v1.training_pb2 import TrainingSpec
from ftclient import schema
from ftclient.fields import paths

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


def accepts(shape: dict[str, Any], value: Any) -> bool:
    """Whether the value fits the part of JSON Schema that is used here: types, properties, items, enums, references."""
    root = schema.json_schema()
    if "$ref" in shape:
        return accepts(root["$defs"][shape["$ref"].rpartition("/")[2]], value)
    if "anyOf" in shape:
        return any(accepts(each, value) for each in shape["anyOf"])
    if "enum" in shape:
        return value in shape["enum"]
    types = [shape["type"]] if isinstance(shape["type"], str) else shape["type"]
    match value:
        case dict():
            others = shape.get("additionalProperties")
            known = shape.get("properties", {})
            inside = [(known.get(key, others), item) for key, item in value.items()]
            return "object" in types and all(each and accepts(each, item) for each, item in inside)
        case list():
            return "array" in types and all(accepts(shape["items"], item) for item in value)
        case bool() | None:
            return ("boolean" if value is not None else "null") in types
        case int() | float():
            whole = value == int(value)
            return "number" in types or (whole and "integer" in types)
    return "string" in types


def test_it_has_every_field_of_a_spec() -> None:
    known = [field.path for field in schema.fields()]
    assert known == [
        *(path for path in paths(JobSpec.DESCRIPTOR) if path.partition(".")[0] != "training"),
        *paths(TrainingSpec.DESCRIPTOR),
    ]


def test_nearly_every_field_says_what_it_means() -> None:
    silent = [field.path for field in schema.fields() if not field.meaning]
    # Names of columns, and what is told by the mapping around it.
    assert len(silent) < 0.1 * len(list(schema.fields())), silent


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("lora.rank", "lora.rank"),
        ("training.lora.rank", "lora.rank"),
        ("data.train.path", "data.train[0].path"),
        ("data.train[3].path", "data.train[0].path"),
        ("data.train.3.path", "data.train[0].path"),
        ("data.train[0]", "data.train"),
        ("labels", "labels"),
    ],
)
def test_a_field_is_found_however_its_place_is_written(asked: str, path: str) -> None:
    found = schema.find(asked)
    assert found is not None
    assert found.path == path


def test_what_a_field_takes() -> None:
    takes = {path: field.takes for path in TAKES if (field := schema.find(path))}
    assert takes == TAKES


TAKES = {
    "lora.rank": "whole number",
    "optimizer.learning_rate": "number",
    "resources.memory_bytes": "size",
    "not_before": "time",
    "labels": "mapping of names to values",
    "lora": "mapping",
    "lora.target_modules": "list of text",
    "data.train": "list of mapping",
    "data.packing": "true or false",
    "model.dtype": "choice",
}


def test_choices_are_told_with_their_meanings() -> None:
    dtype = schema.find("model.dtype")
    assert dtype is not None
    assert dict(dtype.choices)["fp16"] == "Refused on CPUs."
    assert {"fp32", "bf16"} <= set(dict(dtype.choices))


def test_what_does_not_exist() -> None:
    assert schema.find("lora.rnak") is None
    assert schema.near("lora.rnak")[0] == "lora.rank"
    assert schema.near("nonsense") == ()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_the_json_schema_accepts_the_examples(file: Path) -> None:
    assert accepts(schema.json_schema(), YAML(typ="safe", pure=True).load(file))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lora": {"rnak": 8}},
        {"lora": {"rank": "8"}},
        {"model": {"dtype": "float32"}},
        {"data": {"train": [{"path": ["a"]}]}},
        {"hold": "yes"},
        {"nonsense": 1},
    ],
)
def test_the_json_schema_refuses(wrong: dict[str, Any]) -> None:
    assert not accepts(schema.json_schema(), wrong)


@pytest.mark.parametrize(
    "right",
    [{"full": None}, {"after": ["other"]}, {"data": {"train": "a.jsonl"}}, {"lora": {"rank_pattern": {"q_proj": 4}}}],
)
def test_the_json_schema_accepts_short_forms(right: dict[str, Any]) -> None:
    assert accepts(schema.json_schema(), right)
