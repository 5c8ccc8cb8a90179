from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fttrain.data import json_lists
from fttrain.data.readers import read_rows
from fttrain.failure import Refused

LINES = b'{"a": 1}\n{"a": 2}\n'
ZSTD = pyarrow.compress(LINES * 1000, codec="zstd", asbytes=True)
ACCEPTED = "accepted are .json, .jsonl, .csv, .txt, each also as .gz or .zst, and .parquet, .arrow"


def rows(path: Path, content: str | bytes) -> list[tuple[int, object]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(path, f"data.train[0]: {path.name}"))


def refusal(path: Path, content: str | bytes) -> str:
    with pytest.raises(Refused) as refused:
        rows(path, content)
    assert refused.value.advice
    return refused.value.message


def test_a_line_is_numbered_as_in_an_editor(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n') == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_list_may_be_spread_over_lines(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.json", ' [\n {"a": [1,\n 2]} ,\n"b"]\n') == [(1, {"a": [1, 2]}), (2, "b")]
    assert rows(tmp_path / "b.json", "[ ]") == []


def test_json_lines_are_read_under_the_name_of_json(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.json", '{"a": 1}\n{"a": 2}\n') == [(1, {"a": 1}), (2, {"a": 2})]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv", b"\xef\xbb\xbfprompt,completion\na,b\n") == [
        (1, {"prompt": "a", "completion": "b"})
    ]


def test_blank_lines_part_paragraphs(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.txt", "one\ntwo\n \n\nthree") == [(1, {"text": "one\ntwo"}), (2, {"text": "three"})]


@pytest.mark.parametrize("pack", [gzip.compress, partial(pyarrow.compress, codec="zstd", asbytes=True)])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (".jsonl", LINES),
        (".json", b"\xef\xbb\xbf" + LINES),
        (".json", b' [{"a": 1}, {"a": 2}]'),
        (".csv", b"a\n1\n2\n"),
        (".txt", b"1\n\n2\n"),
    ],
)
def test_a_compressed_file_has_the_rows_of_the_file(tmp_path: Path, pack: Any, kind: str, text: bytes) -> None:
    ending = ".gz" if pack is gzip.compress else ".zst"
    assert rows(tmp_path / f"a{kind}{ending}", pack(text)) == rows(tmp_path / f"a{kind}", text) != []


@pytest.mark.parametrize("new", [pyarrow.ipc.new_file, pyarrow.ipc.new_stream])
def test_arrow_is_read_as_file_and_as_stream(tmp_path: Path, new: Any) -> None:
    table = pyarrow.table({"n": range(3000), "turns": [[{"role": "user", "content": "a"}]] * 3000})
    with new(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    read = list(read_rows(tmp_path / "a.arrow", "a"))
    assert [number for number, _ in read] == list(range(1, 3001))
    assert read[-1][1] == {"n": 2999, "turns": [{"role": "user", "content": "a"}]}


def test_what_datasets_saves_is_read(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"text": "a"}, {"text": "b"}]).save_to_disk(str(tmp_path))
    [file] = tmp_path.glob("*.arrow")
    assert list(read_rows(file, "a")) == [(1, {"text": "a"}), (2, {"text": "b"})]


def test_parquet_rows_are_objects(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    turns = [{"role": "user", "content": "a"}]
    pyarrow.parquet.write_table(pyarrow.table({"messages": [turns]}), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet", "a")) == [(1, {"messages": turns})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            '{"a": 1}\n{"a": 1 "b"}\n',
            "a.jsonl line 2 is not valid JSON: Expecting ',' delimiter at column 9",
        ),
        ("a.json", '[{"a": 1},\n{"a" 1}]', "a.json line 2 is not valid JSON: Expecting ':' delimiter at column 6"),
        ("a.json", '[{"a": 1}\n {"a": 1}]', "a.json line 2 is not valid JSON: Expecting ',' at column 2"),
        ("a.json", '[{"a": 1},\n{"a": "b', "a.json line 2 is not valid JSON: Unterminated string starting at column 7"),
        ("a.json", "{'a'", "a.json line 1 is not valid JSON"),
        ("a.json", "hello", "a.json begins with 'h'; accepted is a JSON list of objects, or one object a line"),
        ("a.jsonl", b'{"a": "\xff"}', "a.jsonl is not UTF-8 text"),
        ("a.csv", 'a,b\n"c', "a.csv is not valid CSV"),
        ("a.parquet", "nothing", "a.parquet is not a valid Parquet file"),
        ("a.xlsx", "", f"a.xlsx has the ending .xlsx; {ACCEPTED}"),
        ("a.parquet.gz", b"", f"a.parquet.gz has the ending .parquet.gz; {ACCEPTED}"),
        (
            "a.jsonl.gz",
            gzip.compress(LINES, mtime=0)[:-20],
            "a.jsonl.gz is not a whole .gz file: Compressed file ended",
        ),
        ("a.csv.gz", b"no gzip", "a.csv.gz is not a whole .gz file: Not a gzipped file"),
        ("a.jsonl.zst", ZSTD[:-10], "a.jsonl.zst is not a whole .zst file: Truncated compressed stream"),
        ("a.json.zst", b"no zstd", "a.json.zst is not a whole .zst file: ZSTD decompress failed"),
        ("a.arrow", b"no arrow file at all", "a.arrow is not a valid Arrow file"),
        ("a.arrow", b"", "a.arrow is not a valid Arrow file"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    assert refusal(tmp_path / name, content).startswith(f"data.train[0]: {message}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.lists(JSON, max_size=6),
    indent=st.sampled_from([None, 0, 1]),
    escape=st.booleans(),
    chunk=st.integers(1, 9),
)
def test_a_list_is_read_the_same_however_little_is_read_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, values: list[object], indent: int | None, escape: bool, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK", chunk)
        read = rows(path, json.dumps(values, indent=indent, ensure_ascii=escape))
    assert read == list(enumerate(values, 1))


@given(before=st.integers(0, 30), chunk=st.integers(1, 40))
def test_the_place_of_an_error_does_not_depend_on_the_reading(
    tmp_path_factory: pytest.TempPathFactory, before: int, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    content = "[" + '{"a": "bcd"},\n' * before + '{"a": 1} {"a": 2}, {"a": 3}]'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_CHUNK", chunk)
        message = refusal(path, content)
    column = 11 if before == 0 else 10
    assert message.endswith(f"line {before + 1} is not valid JSON: Expecting ',' at column {column}")
