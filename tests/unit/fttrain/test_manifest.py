"""A folder is complete exactly when its manifest and its files agree to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from finetuned.v1 import training_pb2
from fttrain import manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint-7"
    (made / "deep").mkdir(parents=True)
    (made / "weights").write_bytes(b"1234")
    (made / "deep" / "state").write_bytes(b"56")
    manifest.write(made, "job", 7, "spec")
    return made


def test_what_is_written_is_verified(folder: Path) -> None:
    read = manifest.verify(folder)
    assert (read.job_id, read.step, read.spec_digest) == ("job", 7, "spec")
    assert [(file.path, file.bytes) for file in read.files] == [("deep/state", 2), ("weights", 4)]
    assert read.files[1].sha256 == hashlib.sha256(b"1234").hexdigest()
    assert manifest.size(read) == 6


def cut(folder: Path) -> None:
    (folder / "weights").write_bytes(b"123")


def change(folder: Path) -> None:
    (folder / "weights").write_bytes(b"1235")


def remove(folder: Path) -> None:
    (folder / "weights").unlink()


def add(folder: Path) -> None:
    (folder / "deep" / "evil.pt").write_bytes(b"")


def link(folder: Path) -> None:
    (folder / "weights").unlink()
    (folder / "weights").symlink_to("/etc/hostname")


def unsealed(folder: Path) -> None:
    (folder / manifest.NAME).unlink()


def torn(folder: Path) -> None:
    (folder / manifest.NAME).write_text('{"jobId": "jo')


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "weights is not what was written"),
        (change, "weights is not what was written"),
        (remove, "lacks weights"),
        (add, "holds deep/evil.pt, which is not in its manifest"),
        (link, "holds weights, which is no ordinary file"),
        (unsealed, "no readable manifest"),
        (torn, "no readable manifest"),
    ],
)
def test_any_difference_makes_it_incomplete(folder: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(folder)
    with pytest.raises(manifest.Incomplete, match=said):
        manifest.verify(folder)


def test_the_digest_of_a_spec_is_that_of_its_content() -> None:
    spec = training_pb2.TrainingSpec(seed=1)
    assert manifest.spec_digest(spec) == manifest.spec_digest(training_pb2.TrainingSpec(seed=1))
    assert manifest.spec_digest(spec) != manifest.spec_digest(training_pb2.TrainingSpec(seed=2))
