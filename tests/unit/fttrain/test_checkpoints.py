"""Which checkpoints are gone on from, and which are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2
from fttrain import checkpoints, manifest
from fttrain.failure import Refused

SPEC = training_pb2.TrainingSpec(seed=1)
DIGEST = manifest.spec_digest(SPEC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Checkpoints at steps 3, 20 and 100; the order of their names is another."""
    for step in (3, 20, 100):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"x" * step)
        checkpoints.seal(tmp_path / "checkpoints", step, "job", DIGEST)
    return tmp_path / "checkpoints"


def bootstrap(root: Path, resume_from: str, job: str = "job", seed: int = 1) -> trainer_pb2.Bootstrap:
    return trainer_pb2.Bootstrap(
        job_id=job,
        run_directory=str(root.parent),
        resume_from=resume_from,
        spec=training_pb2.TrainingSpec(seed=seed),
    )


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_a_sealed_one_is_told_with_its_size(root: Path) -> None:
    saved = checkpoints.seal(root, 20, "job", DIGEST)
    assert (saved.step, saved.name, saved.bytes) == (20, "checkpoint-20", 20)


def test_the_named_one_is_resumed_and_none_means_anew(root: Path) -> None:
    assert checkpoints.to_resume(bootstrap(root, "checkpoint-20")) == root / "checkpoint-20"
    assert checkpoints.to_resume(bootstrap(root, "")) is None


def test_one_that_is_not_ours_or_not_whole_is_refused(root: Path) -> None:
    with pytest.raises(Refused, match="belongs to job job"):
        checkpoints.to_resume(bootstrap(root, "checkpoint-20", job="other"))
    with pytest.raises(Refused, match="written under another spec"):
        checkpoints.to_resume(bootstrap(root, "checkpoint-20", seed=2))
    (root / "checkpoint-20" / "weights").write_bytes(b"")
    with pytest.raises(Refused, match="weights is not what was written"):
        checkpoints.to_resume(bootstrap(root, "checkpoint-20"))


def test_the_newest_are_kept(root: Path) -> None:
    checkpoints.prune(root, 2, None)
    assert names(root) == {"checkpoint-20", "checkpoint-100"}
    checkpoints.prune(root, 5, None)
    assert names(root) == {"checkpoint-20", "checkpoint-100"}


def test_what_lies_beyond_the_start_is_discarded(root: Path) -> None:
    checkpoints.discard_unused(root, root / "checkpoint-20")
    assert names(root) == {"checkpoint-3", "checkpoint-20"}
    checkpoints.discard_unused(root, None)
    assert names(root) == set()
