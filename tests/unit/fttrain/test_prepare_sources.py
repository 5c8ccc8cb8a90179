"""Where rows come from: several files, URLs, mixing, evaluation sets, and the rows that are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.models import smol_nano  # noqa: F401
from tests.support.preparation import decoded, jsonl, order, prepared, texts
from tests.support.training import events, of_kind

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2
from fttrain.failure import Refused


@pytest.fixture
def model(smol_nano: Path) -> Path:  # noqa: F811
    return smol_nano


def test_a_url_is_fetched_read_and_reported_and_leaves_no_file(model: Path, tmp_path: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/sets/a.jsonl", b'{"text": "a"}\n{"text": ""}\n')
    message = order(model, tmp_path, Path("x.jsonl"))
    message.spec.data.train[0].path = "memory://sets/a.jsonl"
    message.fetched_bytes = 1000
    first, again = prepared(message), prepared(message)
    assert (first.data.sources[0].path, first.data.sources[0].rows_used) == ("memory://sets/a.jsonl", 1)
    assert again.data.from_cache
    assert again.data.sources == first.data.sources
    assert [entry.name for entry in Path(message.prepared_root).iterdir()] == [first.data.digest]
    message.fetched_bytes = 10
    assert "has more than 10 bytes" in data_refusal(message)


def data_refusal(message: trainer_pb2.Bootstrap) -> str:
    with pytest.raises(Refused) as refused:
        prepared(message)
    return refused.value.message


def test_each_row_that_is_left_out_is_listed_in_a_file(model: Path, tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "" if n % 2 else "ok"} for n in range(1, 301)]
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows))
    dropped = tmp_path / "dropped.jsonl"
    assert prepared(message).data.sources[0].rows_dropped == 150
    listed = [json.loads(line) for line in dropped.read_text().splitlines()]
    assert listed[0] == {"source": 0, "file": "a.jsonl", "row": 1, "reason": "column 'text' is empty"}
    assert [line["row"] for line in listed] == list(range(1, 301, 2))
    dropped.unlink()
    assert prepared(message).data.from_cache
    assert [json.loads(line) for line in dropped.read_text().splitlines()] == listed


def test_a_strict_job_bears_no_bad_row_but_those_it_asked_to_leave_out(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": ""}, {"text": 1}]))
    message.spec.data.strict = True
    assert data_refusal(message) == (
        "data.strict: 2 rows cannot be used, the first is row 2 of a.jsonl: column 'text' is empty"
    )
    assert len((tmp_path / "dropped.jsonl").read_text().splitlines()) == 2
    jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "long " * 50}])
    message.spec.data.max_length = 16
    message.spec.data.long_rows = training_pb2.LONG_ROWS_DROP
    assert prepared(message).data.train.rows == 1


def test_a_source_of_several_files_is_one_and_each_file_is_reported(model: Path, tmp_path: Path) -> None:
    files = [texts(tmp_path / f"{name}.jsonl", 3) for name in "ab"]
    (tmp_path / "empty.jsonl").touch()
    message = order(model, tmp_path, tmp_path)
    source = message.spec.data.train[0]
    source.files.extend(str(path) for path in (*files, tmp_path / "empty.jsonl"))
    source.max_samples = 5
    report = prepared(message).data
    assert [(Path(each.path).name, each.rows_read, each.rows_used) for each in report.sources] == [
        ("a.jsonl", 3, 3),
        ("b.jsonl", 2, 2),
        ("empty.jsonl", 0, 0),
    ]
    assert report.sources[0].decided == "told by its columns text"
    notice = next(of_kind(events(tmp_path), "notice")).text
    assert notice == "data.train[0]: 3 files is read as text, told by its columns text"
    jsonl(files[1], [{"instruction": "a", "output": "b"}])
    assert data_refusal(message) == (
        "data.train[0] has text rows in a.jsonl and alpaca rows in b.jsonl; accepted are files of one format"
    )
    files[1].unlink()
    files[1].symlink_to(files[0])
    assert data_refusal(message) == "data.train[0]: b.jsonl is a link now, and was none at submit"


def test_rows_are_drawn_by_the_seed_and_again_where_there_are_too_few(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 10))
    source = message.spec.data.train[0]
    source.num_samples = 25
    seen = decoded(prepared(message), model)
    assert len(seen) == 25
    assert {seen.count(text) for text in set(seen)} == {2, 3}
    source.ClearField("num_samples")
    source.max_samples = 4
    first = decoded(prepared(message), model)
    assert first == [f"row {number}" for number in range(1, 5)]
    source.shuffle = True
    drawn = decoded(prepared(message), model)
    assert len(drawn) == 4
    assert drawn != first
    message.spec.seed = 43
    assert decoded(prepared(message), model) != drawn


@pytest.mark.parametrize(
    ("mixing", "rows"),
    [
        (training_pb2.MIXING_CONCAT, {"a": 6, "b": 20}),
        (training_pb2.MIXING_INTERLEAVE_UNDER, {"a": 12, "b": 4}),
        (training_pb2.MIXING_INTERLEAVE_OVER, {"a": 42, "b": 20}),
    ],
)
def test_sources_are_mixed_as_the_spec_says(
    model: Path, tmp_path: Path, mixing: training_pb2.Mixing.ValueType, rows: dict[str, int]
) -> None:
    paths = [jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {n}"} for n in range(count)]) for name, count in
             (("a", 12), ("b", 20))]  # fmt: skip
    message = order(model, tmp_path, *paths)
    message.spec.data.mixing = mixing
    message.spec.data.train[0].weight = 0.5 if mixing == training_pb2.MIXING_CONCAT else 2
    seen = decoded(prepared(message), model)
    assert {name: sum(text.startswith(name) for text in seen) for name in "ab"} == rows


def test_evaluation_rows_are_sets_by_their_sources_names(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 10), texts(tmp_path / "b.jsonl", 20))
    message.spec.data.train[0].eval_split = 0.2
    message.spec.data.train[1].eval_split = 0.1
    assert [(each.name, each.rows) for each in prepared(message).data.evaluation_sets] == [("eval_split", 4)]
    message.spec.data.train[0].name = "ours"
    assert [(each.name, each.rows) for each in prepared(message).data.evaluation_sets] == [("ours", 2), ("1", 2)]
    for source in message.spec.data.train:
        source.eval_split = 0
    for name in ("hard", ""):
        message.spec.data.eval.add(path=str(texts(tmp_path / f"e{name}.jsonl", 3)), weight=1, name=name or None)
    assert [(each.name, each.rows) for each in prepared(message).data.evaluation_sets] == [("hard", 3), ("1", 3)]


def test_no_other_column_and_no_other_speaker_is_read_where_a_source_names_all(model: Path, tmp_path: Path) -> None:
    asked = jsonl(tmp_path / "a.jsonl", [{"q": "Say.", "a": "Yes.", "system": "Be rude.", "input": "Twice."}])
    turns = [{"from": "me", "value": "Say."}, {"from": "you", "value": "Yes."}]
    more = [{"turns": [{"from": "system", "value": "Be rude."}, *turns]}, {"turns": turns}]
    message = order(model, tmp_path, asked, jsonl(tmp_path / "b.jsonl", more))
    first, second = message.spec.data.train
    first.format, second.format = training_pb2.FORMAT_ALPACA, training_pb2.FORMAT_SHAREGPT
    first.columns.instruction, first.columns.output, first.columns.only = "q", "a", True
    second.columns.messages, second.columns.only = "turns", True
    second.speakers.user, second.speakers.assistant = "me", "you"
    result = prepared(message)
    alone, talk = decoded(result, model)
    assert alone == talk
    assert "rude" not in alone
    assert "Twice" not in alone
    assert [row.reason for row in result.data.dropped] == [
        "turn 1 of 'turns' has the unknown role 'system'; accepted are me, you"
    ]
    first.columns.ClearField("output")
    assert data_refusal(message) == "data.train[0].columns has only instruction; alpaca rows need output"
