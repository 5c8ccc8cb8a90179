"""Looks at data through a real daemon: real preparations of a small model, and fake ones where they must be slow."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from tests.support.daemon import Daemon, eventually, refusal
from tests.support.models import smol_nano  # noqa: F401
from tests.support.preparation import jsonl

from finetuned.v1 import dataset_service_pb2, event_pb2, job_pb2, training_pb2, uploaded_data_pb2

ROWS = [
    {"instruction": "Name a colour.", "output": "Blue."},
    {"instruction": "Name a fruit.", "output": ""},
    {"instruction": "Name a colour.", "output": "Blue."},
    {"instruction": "Name a planet.", "output": "Mars."},
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose preparations are real."""
    command = [sys.executable, "-m", "fttrain.prepare"]
    with Daemon(tmp_path_factory.mktemp("looks"), trainer={"prepare_command": command}) as daemon:
        yield daemon


@pytest.fixture
def spec(real: Daemon, smol_nano: Path) -> job_pb2.JobSpec:  # noqa: F811
    link = real.root / "nano"
    if not link.exists():
        link.mkdir()
        for file in smol_nano.iterdir():
            if file.is_file():
                (link / file.name).write_bytes(file.read_bytes())
    return json_format.ParseDict(
        {
            "training": {
                "model": {"path": str(link)},
                "data": {"train": [{"path": str(jsonl(real.root / "a.jsonl", ROWS))}], "max_length": 128},
                "schedule": {"epochs": 2},
            }
        },
        job_pb2.JobSpec(),
    )


def check(daemon: Daemon, spec: job_pb2.JobSpec) -> list[dataset_service_pb2.CheckDataResponse]:
    return list(daemon.data.CheckData(dataset_service_pb2.CheckDataRequest(spec=spec)))


def looks(daemon: Daemon) -> list[Path]:
    return list((daemon.state / "looks").glob("*"))


def test_a_row_is_shown_as_it_would_be_trained_on(real: Daemon, spec: job_pb2.JobSpec) -> None:
    request = dataset_service_pb2.PreviewDataRequest(spec=spec, row=4)
    [row] = real.data.PreviewData(request).rows
    assert (row.source, row.row) == ("data.train[0]", 4)
    assert [run.text for run in row.sequences[0].runs if run.trained] == ["Mars.<|im_end|>\n"]
    assert looks(real) == []


def test_a_check_reports_what_a_job_then_finds_prepared(real: Daemon, spec: job_pb2.JobSpec) -> None:
    last = check(real, spec)[-1]
    report = last.report
    assert (report.train.rows, report.train.duplicate_rows, report.from_cache) == (3, 1, False)
    assert [(row.row, row.reason) for row in report.dropped] == [(2, "column 'output' is empty")]
    assert sum(each.rows for each in report.train.lengths) == 3
    # Two epochs of 3 rows, 8 rows an update.
    assert last.total_steps == 2
    assert last.tokens >= 2 * report.train.tokens
    assert check(real, spec)[-1].report.from_cache


def test_a_data_set_that_was_sent_is_prepared_as_the_same_file_was(real: Daemon, spec: job_pb2.JobSpec) -> None:
    check(real, spec)
    rows = Path(spec.training.data.train[0].path).read_bytes()
    header = uploaded_data_pb2.UploadHeader(
        name="sent", file="b.jsonl", sha256=hashlib.sha256(rows).hexdigest(), bytes=len(rows)
    )
    request = uploaded_data_pb2.UploadDatasetRequest
    real.data.UploadDataset(iter([request(header=header), request(data=rows)]))
    spec.training.data.train[0].CopyFrom(training_pb2.DataSource(dataset="sent"))
    [row] = real.data.PreviewData(dataset_service_pb2.PreviewDataRequest(spec=spec, row=4)).rows
    assert Path(row.path).name == "b.jsonl"
    assert check(real, spec)[-1].report.from_cache
    assert looks(real) == []


def test_data_that_no_job_could_train_on_is_refused_with_the_words_of_the_preparation(
    real: Daemon, spec: job_pb2.JobSpec
) -> None:
    bad = job_pb2.JobSpec()
    bad.CopyFrom(spec)
    bad.training.data.template = "llama3"
    for call in (
        lambda: real.data.PreviewData(dataset_service_pb2.PreviewDataRequest(spec=bad)),
        lambda: check(real, bad),
    ):
        code, reason, message = refusal(call)
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATA_REFUSED")
        assert message.startswith("data.template: llama3 is made of tokens that the model's tokenizer does not have")
    assert looks(real) == []


@pytest.mark.parametrize("fields", [{"rows": 21}, {"rows": -1}, {"row": -1}])
def test_a_preview_of_rows_that_cannot_be_is_refused(
    real: Daemon, spec: job_pb2.JobSpec, fields: dict[str, Any]
) -> None:
    request = dataset_service_pb2.PreviewDataRequest(spec=spec, **fields)
    assert refusal(lambda: real.data.PreviewData(request))[1] == "INVALID_REQUEST"


def test_a_spec_with_problems_is_told_them_all(real: Daemon) -> None:
    spec = job_pb2.JobSpec()
    spec.training.data.template = "nobody"
    fields: list[str] = []
    request = dataset_service_pb2.PreviewDataRequest(spec=spec)
    assert refusal(lambda: real.data.PreviewData(request), fields)[1] == "INVALID_SPEC"
    assert {"training.data.template", "training.data.train"} <= set(fields)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("fake")) as daemon:
        yield daemon


SLOW = {"prepare": {"steps": 1000, "step_seconds": 0.2}}


def test_who_hangs_up_ends_the_check_and_leaves_nothing(fake: Daemon) -> None:
    stream = fake.data.CheckData(dataset_service_pb2.CheckDataRequest(spec=fake.spec(SLOW)))
    assert next(stream).phase != event_pb2.PHASE_UNSPECIFIED
    assert len(looks(fake)) == 1
    [look] = looks(fake)
    stream.cancel()
    eventually(lambda: not looks(fake))
    assert not _processes(look)


def test_what_a_killed_daemon_left_is_ended_by_the_next(fake: Daemon) -> None:
    stream = fake.data.CheckData(dataset_service_pb2.CheckDataRequest(spec=fake.spec(SLOW)))
    next(stream)
    [look] = looks(fake)
    fake.kill()
    assert _processes(look)
    fake.start()
    assert looks(fake) == []
    assert not _processes(look)


def _processes(look: Path) -> list[int]:
    """Processes that were started for a look."""
    mark = f"HOME={look}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in environment:
                found.append(int(folder.name))
    return found
