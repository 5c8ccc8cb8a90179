"""Real trainings under a cap on the host's memory: one that needs more fails alone, and says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support import training as support
from tests.support.training import steps

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2

GIB = 2**30
# Long rows make the micro-batch what decides.
LONG = "data { max_length: 256 } schedule { max_steps: 1 } batch { micro_batch: MICRO global_batch: 16 } "


@pytest.fixture(scope="module")
def long_rows(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = [[1 + number % 200 for number in range(256)] for _ in range(16)]
    rows = [{"input_ids": row, "labels": row} for row in ids]
    return support.prepare(tmp_path_factory.mktemp("long") / "rows", rows)


def trained(model: Path, rows: Path, run: Path, micro_batch: int, cap: int) -> trainer_pb2.RankResult:
    spec = support.resolved_spec(model, "pretrain", changes=LONG.replace("MICRO", str(micro_batch)))
    message = support.bootstrap(run, spec, rows, host_cap_bytes=cap)
    rank = support.start_rank(message, OMP_NUM_THREADS="1", PATH=os.environ["PATH"])
    _, log = rank.communicate(timeout=200)
    found = support.result(message)
    assert rank.returncode == (1 if found.outcome == event_pb2.OUTCOME_FAILED else 0), log.decode()
    return found


def test_half_of_what_is_too_much_fits(smol_nano: Path, long_rows: Path, tmp_path: Path) -> None:
    """A cap at what one row at a time was measured to need, and what 16 do not get by with."""
    free = trained(smol_nano, long_rows, tmp_path / "free", 1, 0)
    cap = free.peak_memory_bytes
    much = trained(smol_nano, long_rows, tmp_path / "much", 16, cap)
    assert much.failure.failure_class == event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY
    assert much.failure.message == f"the training needs more than the {cap / GIB:.2f} GiB reserved for it on the host"
    assert "batch.micro_batch" in much.failure.advice
    # It did not take more than the cap and what may be mapped unused.
    assert much.peak_memory_bytes <= cap + GIB // 2
    little = trained(smol_nano, long_rows, tmp_path / "little", 1, cap)
    assert little.outcome == event_pb2.OUTCOME_COMPLETED
    assert len(steps(tmp_path / "little")) == 1
