"""What an attempt is started with, and how its last word is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.jobs import fake_job

from ftd.bootstrap import Exit, LaunchSettings, build, environment, read_exit, read_keeper
from ftd.process import Identity
from ftd.records import Failure, FailureClass, Outcome
from ftd.rundir import RunDirectory

SETTINGS = LaunchSettings(Path("/state"), ("prepare",), ("train", "it"), False, False, 30.0, 10.0, 0, "0.1.0")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "jabc234567")
    run.new_attempt(1)
    return run


def test_training_and_preparation(run: RunDirectory, tmp_path: Path) -> None:
    job = fake_job(tmp_path, {}, prepared_directory="/state/prepared/abc", output_path="/out")
    training = build(job, 1, ("GPU-a", "GPU-b"), run, SETTINGS)
    assert (list(training.rank_command), list(training.device_ids)) == (["train", "it"], ["GPU-a", "GPU-b"])
    assert training.prepared_directory == "/state/prepared/abc"
    assert (training.output_path, training.job_id, training.protocol) == ("/out", job.id, 1)
    assert training.spec.data.train[0].path.endswith("rows.jsonl")
    preparation = build(replace(job, output_path=""), 0, ("cpu",), run, SETTINGS)
    assert (list(preparation.rank_command), list(preparation.device_ids)) == (["prepare"], [""])
    assert preparation.output_path == str(run.output_path)


def test_environment_is_built_from_nothing(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    assert environment("job", 2, run, SETTINGS) == {
        "FINETUNED_ATTEMPT": "job/2",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(run.path),
        "LANG": "C.UTF-8",
        "HF_HOME": "/state/huggingface",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def test_environment_of_a_host_that_allows_more(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    variables = environment("job", 2, run, replace(SETTINGS, allow_hub=True, threads=4))
    assert "HF_HUB_OFFLINE" not in variables
    assert (variables["OMP_NUM_THREADS"], variables["OPENBLAS_CORETYPE"]) == ("4", "Haswell")


def test_last_word(run: RunDirectory) -> None:
    assert read_exit(run, 1) is None
    (run.attempt(1) / "exit.json").write_text("""{
        "ended": {"outcome": "OUTCOME_FAILED", "checkpoint": "checkpoint-3", "peakMemoryBytes": "7", "later": 1,
                  "failure": {"failureClass": "FAILURE_CLASS_DISK_FULL", "message": "full", "rank": 1}},
        "time": "1970-01-01T00:01:40Z"}""")
    expected = Exit(Outcome.FAILED, Failure(FailureClass.DISK_FULL, "full", "", 1), "checkpoint-3", 7)
    assert read_exit(run, 1) == read_exit(run, 1, since=100.0) == expected
    assert read_exit(run, 1, since=100.5) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"ended": {}}', b'{"ended": {"outcome": "OUTCOME_NEW"}}', b" " * (5 << 20)]
)
def test_a_last_word_nobody_understands_is_none(run: RunDirectory, content: bytes) -> None:
    (run.attempt(1) / "exit.json").write_bytes(content)
    assert read_exit(run, 1) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"keeper": {"pid": -1}}', b'{"keeper": 1}'])
def test_a_record_nobody_understands_is_none(run: RunDirectory, content: bytes) -> None:
    (run.attempt(1) / "keeper.json").write_bytes(content)
    assert read_keeper(run, 1) is None


def test_keeper(run: RunDirectory) -> None:
    (run.attempt(1) / "keeper.json").write_text("""{
        "bootId": "b", "keeper": {"pid": 5, "startTicks": "9"}, "ranks": [{"pid": 6}, {"pid": 7}],
        "startTime": "1970-01-01T00:01:40Z"}""")
    keeper = read_keeper(run, 1)
    assert keeper is not None
    assert (keeper.identity, keeper.ranks) == (Identity(5, 9, "b"), (6, 7))
    assert read_keeper(run, 1, since=100.5) is None
