"""What is previewed is what is trained: the ids and labels shown are those that the preparation writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tests.support.models import smol_nano  # noqa: F401
from tests.support.preparation import ROWS, jsonl, order, prepared, rows_of
from tests.support.training import QUESTIONS, REJECTED, turn

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_preview_pb2
from fttrain import preview
from fttrain.failure import Refused
from fttrain.prepare import show
from fttrain.report import Report

TALK = [
    {
        "messages": [
            *turn("user", q),
            {**turn("assistant", a)[0], "train": i % 3 > 0},
            *turn("user", "?"),
            *turn("assistant", "!"),
        ]
    }
    for i, (q, a) in enumerate(QUESTIONS)
]
PAIRS = [{"instruction": q, "chosen": a, "rejected": REJECTED} for q, a in QUESTIONS]
LABELLED = [{"instruction": q, "output": a, "label": True} for q, a in QUESTIONS]


@pytest.fixture
def model(smol_nano: Path) -> Path:  # noqa: F811
    return smol_nano


def shown(
    message: trainer_pb2.Bootstrap, row: int = 0, rows: int = 1, source: str = "data.train[0]"
) -> list[data_preview_pb2.PreviewedRow]:
    message.preview.CopyFrom(trainer_pb2.Preview(source=source, row=row, rows=rows))
    return list(show(message, Report(None, 0)).previewed)


@pytest.mark.parametrize(
    "change",
    [
        "",
        "sft { train_on: TRAIN_ON_LAST_ASSISTANT }",
        "sft { train_on: TRAIN_ON_ALL }",
        "data { template: 'chatml' default_system: 'Be brief.' }",
        "data { max_length: 48 }",
    ],
)
def test_the_rows_shown_are_those_on_disk(model: Path, tmp_path: Path, change: str) -> None:
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", TALK))
    text_format.Merge(change, message.spec)
    written = rows_of(prepared(message))
    rows = shown(message, row=1, rows=20)
    kept = [row for row in rows if not row.dropped]
    assert [row.row for row in rows] == list(range(1, 9))
    assert [list(row.sequences[0].input_ids) for row in kept] == written["input_ids"]
    trained = [[label != -100 for label in labels] for labels in written["labels"]]
    assert [list(row.sequences[0].trained) for row in kept] == trained


def test_the_text_shown_is_the_text_of_the_tokens_with_its_trained_runs(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    [row] = shown(order(model, tmp_path, jsonl(tmp_path / "a.jsonl", TALK)), row=2)
    [sequence] = row.sequences
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert "".join(run.text for run in sequence.runs) == tokenizer.decode(list(sequence.input_ids))
    assert [run.text for run in sequence.runs if run.trained] == [
        "One change of the weights.<|im_end|>\n",
        "!<|im_end|>\n",
    ]
    assert sum(run.tokens for run in sequence.runs) == len(sequence.input_ids)


@pytest.mark.parametrize(
    ("stage", "rows", "names", "columns"),
    [
        ("dpo", PAIRS, ["chosen", "rejected"], ["chosen_ids", "rejected_ids"]),
        ("kto", LABELLED, ["good answer"], ["completion_ids"]),
    ],
)
def test_of_preferences_prompt_and_answers_are_those_on_disk(
    model: Path, tmp_path: Path, stage: str, rows: Any, names: list[str], columns: list[str]
) -> None:
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows), stage=stage)
    [written, *_] = rows_of(prepared(message))
    [row] = shown(message)
    assert [sequence.name for sequence in row.sequences] == names
    for sequence, column in zip(row.sequences, columns, strict=True):
        assert list(sequence.input_ids) == written["prompt_ids"] + written[column]
        assert sum(sequence.trained) == len(written[column])


def test_rows_that_are_left_out_say_why_and_the_first_shown_can_be_used(model: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "?", "output": ""}, {"instruction": "Name a colour.", "output": "Blue. " * 40}]
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows))
    assert [row.row for row in shown(message)] == [2]
    assert [row.dropped for row in shown(message, row=1)] == ["column 'output' is empty"]
    message.spec.data.max_length = 40
    [cut] = shown(message, row=2)
    assert cut.dropped == "no token of its first 40 tokens (data.max_length) is trained on"
    message.spec.data.max_length = 60
    [cut] = shown(message, row=2)
    assert (cut.dropped, len(cut.sequences[0].input_ids)) == ("", 60)
    assert cut.sequences[0].cut_tokens > 20


def test_what_the_template_does_to_a_row_is_told_with_it(model: Path, tmp_path: Path) -> None:
    talk = [*turn("user", "?"), {"role": "assistant", "content": "!", "reasoning_content": "Hm."}]
    path = jsonl(tmp_path / "a.jsonl", [{"messages": [*talk, *talk]}])
    message = order(model, tmp_path, path)
    message.spec.data.template = "qwen3"
    [row] = shown(message)
    assert len(row.remarks) == 2
    assert list(prepared(message).data.remarks) == [f"{remark} (1 row)" for remark in row.remarks]


def test_rows_and_sources_that_are_not_there_are_told(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, ROWS / "messages.jsonl")
    with pytest.raises(Refused, match=r"messages.jsonl has no row 9; it has 2 rows"):
        shown(message, row=9)
    with pytest.raises(Refused, match=r"there is no source data.eval\[0\]") as refused:
        shown(message, source="data.eval[0]")
    assert refused.value.advice == "name one of data.train[0]"
    message = order(model, tmp_path, jsonl(tmp_path / "bad.jsonl", [{"instruction": "?", "output": ""}]))
    with pytest.raises(Refused, match="has no row that can be used among 1 row"):
        shown(message)


def test_no_more_is_shown_than_a_message_holds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "_MOST_TOKENS", 50)
    [row] = shown(order(model, tmp_path, jsonl(tmp_path / "a.jsonl", TALK)), rows=20)
    [sequence] = row.sequences
    assert len(sequence.input_ids) == len(sequence.trained) == sum(run.tokens for run in sequence.runs) == 50
    assert "only the beginning is shown" in row.remarks[-1]
