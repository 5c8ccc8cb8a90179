"""Run directories: what is made, what counts as complete, what is deleted."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from tests.support.jobs import fake_job

from finetuned.v1 import job_pb2, training_pb2
from ftd import rundir
from ftd.errors import DiskFull
from ftd.records import ArtifactKind
from ftd.rundir import RunDirectories, RunDirectory
from fttrain import manifest


@pytest.fixture
def directories(tmp_path: Path) -> RunDirectories:
    return RunDirectories(tmp_path / "runs")


@pytest.fixture
def run(directories: RunDirectories, tmp_path: Path) -> RunDirectory:
    return directories.create(fake_job(tmp_path, {}))


def checkpoint(run: RunDirectory, step: int, *, complete: bool = True, job_id: str = "") -> Path:
    folder = run.path / "checkpoints" / f"checkpoint-{step}"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * step)
    (folder / "sub" / "state").write_bytes(b"s")
    if complete:
        manifest.write(folder, job_id or run.path.name, step, "digest")
    return folder


def test_create_keeps_both_specs_and_may_be_repeated(directories: RunDirectories, tmp_path: Path) -> None:
    job = fake_job(tmp_path, {})
    for _ in range(2):
        run = directories.create(job)
        spec = json_format.Parse((run.path / "spec.json").read_text(), job_pb2.JobSpec())
        assert spec.name == "fake"
        resolved = json_format.Parse((run.path / "resolved.json").read_text(), training_pb2.TrainingSpec())
        assert resolved == spec.training
    assert run.path == tmp_path / "runs" / job.id
    assert run.path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_has_a_name(
    directories: RunDirectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(number, "full", str(path))

    monkeypatch.setattr(rundir, "write_atomically", full)
    with pytest.raises(DiskFull, match=r"^the daemon's disk is full; free space below its state directory$"):
        directories.create(fake_job(tmp_path, {}))


def test_a_new_attempt_is_empty(run: RunDirectory) -> None:
    (run.new_attempt(0) / "exit.json").write_text("{}")
    assert list(run.new_attempt(0).iterdir()) == []


def test_latest_checkpoint_is_by_number(run: RunDirectory) -> None:
    assert run.latest_checkpoint() == ""
    for step in (9, 100, 20):
        checkpoint(run, step)
    assert run.latest_checkpoint() == "checkpoint-100"


def torn(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"jobId": "jab')


def missing(folder: Path) -> None:
    (folder / "weights").unlink()


def shorter(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w")


def changed(folder: Path) -> None:
    (folder / "weights").write_bytes(b"v" * 100)


def extra(folder: Path) -> None:
    (folder / "sub" / "more").write_bytes(b"")


def linked(folder: Path) -> None:
    content = folder.parent / "outside"
    (folder / "weights").rename(content)
    (folder / "weights").symlink_to(content)


def linked_folder(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "outside")
    (folder / "sub").symlink_to(folder.parent / "outside")


def no_hash(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    del content["files"][0]["sha256"]
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [torn, missing, shorter, changed, extra, linked, linked_folder, no_hash])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run: RunDirectory, damage: object) -> None:
    checkpoint(run, 50)
    newest = checkpoint(run, 100)
    assert run.latest_checkpoint() == "checkpoint-100"
    assert callable(damage)
    damage(newest)
    assert run.latest_checkpoint() == "checkpoint-50"


def test_checkpoints_of_nobody_are_not_used(run: RunDirectory) -> None:
    checkpoint(run, 50)
    checkpoint(run, 60, complete=False)
    checkpoint(run, 70, job_id="another")
    checkpoint(run, 80).rename(run.path / "checkpoints" / "checkpoint-x")
    (run.path / "checkpoints" / "checkpoint-90").symlink_to(run.path / "checkpoints" / "checkpoint-50")
    assert run.latest_checkpoint() == "checkpoint-50"


def test_artifacts(run: RunDirectory, tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint(run, step)
    checkpoint(run, 15, complete=False)
    output = tmp_path / "elsewhere"
    output.mkdir()
    (output / "adapter_config.json").write_text("{}")
    assert [artifact.name for artifact in run.artifacts(str(output))] == ["checkpoint-10", "checkpoint-5"]
    manifest.write(output, run.path.name, 12, "digest")
    first, second, _ = run.artifacts(str(output))
    assert (first.kind, first.name, first.path, first.step) == (ArtifactKind.ADAPTER, "output", str(output), 12)
    assert (second.kind, second.bytes, second.path) == (
        ArtifactKind.CHECKPOINT,
        11,
        str(run.path / "checkpoints" / "checkpoint-10"),
    )
    assert [file.path for file in second.files] == ["sub/state", "weights"]


def test_a_whole_model_is_a_model(run: RunDirectory) -> None:
    run.output_path.mkdir()
    (run.output_path / "config.json").write_text("{}")
    manifest.write(run.output_path, run.path.name, 12, "digest")
    assert [artifact.kind for artifact in run.artifacts()] == [ArtifactKind.MODEL]


def test_delete(directories: RunDirectories, run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (run.path / "link").symlink_to(tmp_path / "kept")
    directories.delete(run.path.name)
    directories.delete(run.path.name)
    assert list(directories.root.iterdir()) == []
    assert (tmp_path / "kept" / "file").exists()


def test_purge_finishes_what_was_cut_short(directories: RunDirectories, run: RunDirectory) -> None:
    run.path.rename(directories.root / f".deleted-{run.path.name}")
    directories.purge()
    assert list(directories.root.iterdir()) == []
