"""The specs in examples/ are valid as they are, and the three files of questions and answers say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftclient import load_spec
from ftd import spec, validate, wire

FOLDER = Path(__file__).parents[3] / "examples"
SPECS = sorted(FOLDER.glob("*.yaml"))


def rows(form: str) -> list[dict[str, Any]]:
    text = (FOLDER / "data" / f"finetuned-qa.{form}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_specs_to_start_from() -> None:
    assert {path.stem for path in SPECS} == {
        "demo",
        "lora",
        "qlora",
        "full",
        "dpo",
        "grpo",
        "rloo",
        "ppo",
        "distill",
        "queued",
    }


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_is_valid(path: Path) -> None:
    loaded = load_spec(path)
    assert list(validate.check(wire.from_proto(spec.JobSpec, loaded), spec.DeviceKind.CPU)) == []
    assert [Path(source.path).is_file() for source in loaded.training.data.train] == [True]


def test_every_question_is_asked_once() -> None:
    questions = [row["instruction"] for row in rows("alpaca")]
    assert 60 <= len(questions) <= 100
    assert len(set(questions)) == len(questions)


def test_the_three_forms_say_the_same() -> None:
    for alpaca, messages, preference in zip(rows("alpaca"), rows("messages"), rows("preference"), strict=True):
        system, question, answer = (turn["content"] for turn in messages["messages"])
        assert [system, question, answer] == [alpaca["system"], alpaca["instruction"], alpaca["output"]]
        assert preference["messages"] == messages["messages"][:2]
        assert (preference["chosen"], preference["rejected"] != answer) == (answer, True)
