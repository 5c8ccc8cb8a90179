"""The command that compares estimates with measured peaks: its groups, its words for bad files, and the aims."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ftsched.accuracy import main, usable_gib

ROOT = Path(__file__).parents[3]
OURS = ROOT / "tests" / "data" / "vram"
PUBLISHED = ROOT.parent / "shared" / "data" / "vram"


def report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_our_own_rows_are_met(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, OURS / "peaks.csv", "--oom", OURS / "oom.csv", "--models", OURS / "models.json")
    groups = found["groups"]
    assert {name: group["n"] for name, group in groups.items()} == {
        "single-gpu-exact": 3,
        "multi-gpu-exact": 1,
        "other-architectures": 2,
        "all": 6,
    }
    assert all(group["worst_pct"] < 1 and group["under_pct"] == 0 for group in groups.values())
    assert found["oom"] == {"n_oom": 2, "caught_pct": 100.0, "n_ran": 6, "false_pct": 0.0}


@pytest.fixture
def published() -> tuple[Path, Path, Path]:
    if not PUBLISHED.is_dir():
        pytest.skip("the table of published peaks is not beside this repository")
    return PUBLISHED / "published_peaks.csv", PUBLISHED / "published_oom.csv", PUBLISHED / "models.json"


def test_published_peaks_are_met(published: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    peaks, oom, models = published
    found = report(capsys, peaks, "--oom", oom, "--models", models)
    single, several = found["groups"]["single-gpu-exact"], found["groups"]["multi-gpu-exact"]
    assert single["n"] >= 40
    assert single["median_pct"] <= 0.75
    assert single["p95_pct"] <= 2.5
    assert single["under_pct"] == 0
    assert several["n"] >= 50
    assert several["median_pct"] <= 3
    assert several["p95_pct"] <= 8
    assert found["groups"]["other-architectures"]["p95_pct"] <= 5
    assert found["oom"]["caught_pct"] >= 90
    assert found["oom"]["false_pct"] <= 1


def test_the_text_has_one_line_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(OURS / "peaks.csv"), "--models", str(OURS / "models.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "group",
        "single-gpu-exact",
        "multi-gpu-exact",
        "other-architectures",
        "all",
    ]


def changed(tmp_path: Path, **cells: str) -> Path:
    """Our rows, with cells of the first one changed."""
    with (OURS / "peaks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0].update(cells)
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"micro_batch": "two"}, "line 2: micro_batch is 'two'; accepted is a whole number of at least 1"),
        ({"seq_len": ""}, "seq_len is ''"),
        ({"num_gpus": "0"}, "num_gpus is '0'"),
        ({"peak_gib": "-3"}, "peak_gib is '-3'; accepted is a number of GiB above 0"),
        ({"peak_gib": "nan"}, "peak_gib is 'nan'"),
        ({"lora_rank": "8.5"}, "lora_rank is '8.5'"),
    ],
)
def test_a_number_that_is_none_is_an_error(
    cells: dict[str, str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(changed(tmp_path, **cells)), "--models", str(OURS / "models.json")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "cells",
    [
        {"method": "prompt-tuning"},
        {"loss": "quantum"},
        {"sharding": "pipeline"},
        {"model": "novel-9b"},
        {"amp": "tf32"},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_told_is_skipped_and_named(
    cells: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(changed(tmp_path, **cells)), "--models", str(OURS / "models.json"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["groups"]["all"]["n"] == 5
    assert "line 2" in captured.err
    assert next(iter(cells.values())) in captured.err


@pytest.mark.parametrize(
    "column", ["gc", "amp", "optimizer", "attn", "loss", "lora_targets", "gpu", "notes", "offload"]
)
def test_an_empty_cell_takes_a_default(column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, changed(tmp_path, **{column: ""}), "--models", OURS / "models.json")
    assert found["groups"]["all"]["n"] == 6


def test_unknown_frameworks_optimizers_and_cards_are_taken_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = changed(tmp_path, framework="homegrown", optimizer="novel", gpu="abacus")
    found = report(capsys, rows, "--oom", OURS / "oom.csv", "--models", OURS / "models.json")
    assert found["groups"]["all"]["n"] == 6
    assert found["oom"]["n_ran"] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "has no column id"), ("id,model\n1,x\n", "has no column framework"), ("\0\1", "cannot be read")],
)
def test_a_file_that_is_no_table_is_refused(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode() + (b"\xff" if text.startswith("\0") else b""))
    assert main([str(path), "--models", str(OURS / "models.json")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{", '{"m": 3}', '{"m": {"model_type": "llama"}}'])
def test_models_that_are_none_are_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "models.json"
    path.write_text(text, encoding="utf-8")
    assert main([str(OURS / "peaks.csv"), "--models", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.csv"), "--models", str(OURS / "models.json")]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_a_short_line_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text((OURS / "peaks.csv").read_text(encoding="utf-8") + "s7,trl\n", encoding="utf-8")
    assert main([str(path), "--models", str(OURS / "models.json")]) == 2
    assert "line 8" in capsys.readouterr().err


def test_cards_are_known_by_what_they_leave_or_by_their_size() -> None:
    assert usable_gib("A100-80GB") == 79.15
    assert usable_gib("B300-288GB") == pytest.approx(288 * 0.985)
    assert usable_gib("unspecified") is None
