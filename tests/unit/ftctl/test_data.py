"""`ftctl data preview` and `data check`: what they print, whole, and how they ask."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.fakes.daemon import FakeDaemon

from finetuned.v1 import (
    data_preview_pb2,
    data_report_pb2,
    dataset_service_pb2,
    event_pb2,
    job_service_pb2,
    training_pb2,
)
from ftctl import output

Matches = Callable[..., None]
Run = Callable[..., object]
SPEC = "model: {path: /models/smol}\ndata:\n  train: [{path: a.jsonl}]\n"


@pytest.fixture(autouse=True)
def _spec(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(SPEC)


@pytest.fixture
def looked(daemon: FakeDaemon) -> FakeDaemon:
    """Two rows to show, of which one is cut, and a check of them."""
    row = data_preview_pb2.PreviewedRow(source="data.train[0]", path="/data/a.jsonl", row=3)
    sequence = row.sequences.add(cut_tokens=12, input_ids=[1, 2, 3], trained=[False, True, True])
    sequence.runs.add(text="<|user|>\nName [a] colour.<|end|>\n<|assistant|>\n", tokens=12)
    sequence.runs.add(text="Blue.<|end|>\n", trained=True, tokens=5)
    sequence.runs.add(text="<|user|>\nAnd a fruit?", tokens=4)
    row.remarks.append("the chat template leaves out what the assistant thinks in turns that others follow")
    bad = data_preview_pb2.PreviewedRow(source="data.train[0]", path="/data/a.jsonl", row=4)
    bad.dropped = "column 'output' is empty"
    daemon.previewed = [row, bad]
    report = data_report_pb2.DataReport(remarks=[f"{row.remarks[0]} (1 row)"])
    train = report.train
    train.rows, train.tokens, train.trained_tokens, train.longest_row_tokens = 120, 9000, 3000, 96
    train.truncated_rows, train.duplicate_rows = 3, 2
    for up_to, rows in ((50, 40), (100, 80)):
        train.lengths.add(up_to=up_to, rows=rows)
    source = report.sources.add(path="/data/a.jsonl", format=training_pb2.FORMAT_ALPACA)
    source.rows_read, source.rows_used, source.rows_dropped = 123, 120, 3
    for number in (4, 17, 99):
        report.dropped.add(source=0, row=number, reason="column 'output' is empty")
    daemon.checks = [
        dataset_service_pb2.CheckDataResponse(phase=event_pb2.PHASE_TOKENIZING, fraction=0.5),
        dataset_service_pb2.CheckDataResponse(report=report, total_steps=45, tokens=27000),
    ]
    return daemon


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("data-preview", ["data", "preview", "-f", "job.yaml", "--row", "3", "-n", "2"]),
        ("data-preview-json", ["data", "preview", "-f", "job.yaml", "-o", "json"]),
        ("data-check", ["data", "check", "-f", "job.yaml"]),
    ],
)
def test_what_is_shown(looked: FakeDaemon, matches: Matches, name: str, args: list[str]) -> None:
    matches(name, *args)


def test_what_is_asked_for(looked: FakeDaemon, ftctl: Run) -> None:
    ftctl("data", "preview", "-f", "job.yaml", "--row", "3", "-n", "2", "--source", "data.eval[1]")
    [request] = [each for each in looked.requests if isinstance(each, dataset_service_pb2.PreviewDataRequest)]
    assert (request.source, request.row, request.rows) == ("data.eval[1]", 3, 2)
    assert request.spec.training.data.train[0].path.endswith("/a.jsonl")


def test_trained_tokens_have_a_colour_on_a_terminal(
    looked: FakeDaemon, ftctl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = StringIO()
    terminal = Console(file=written, force_terminal=True, color_system="standard", width=80, highlight=False)
    monkeypatch.setattr(output, "console", lambda: terminal)
    ftctl("data", "preview", "-f", "job.yaml")
    assert "\x1b[30;42mBlue.<|end|>↵\x1b[0m\n" in written.getvalue()
    assert "[[" not in written.getvalue()


@pytest.mark.parametrize("verb", ["preview", "check"])
def test_data_that_cannot_be_used_and_specs_with_problems(daemon: FakeDaemon, matches: Matches, verb: str) -> None:
    daemon.data_refused = "data.train[0]: a.jsonl has no rows; set data.train[0].path to a file with rows"
    matches(f"data-{verb}-refused", "data", verb, "-f", "job.yaml")
    daemon.violations = [job_service_pb2.Violation(field="training.data.template", description="is nobody")]
    matches(f"data-{verb}-invalid", "data", verb, "-f", "job.yaml")
