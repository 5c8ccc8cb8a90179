"""The prepared rows of a job, as the trainer reads them: tokens and labels, memory-mapped. It must never change one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
from datasets import Dataset, load_from_disk
from google.protobuf import json_format
from numpy.typing import NDArray
from pyarrow import compute
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import pack_dataset

from finetuned.v1 import data_report_pb2, event_pb2
from fttrain.failure import Refused

# Of a pair, both answers are padded to the longer one.
_LENGTHS = (
    ("input_ids",),
    ("prompt_ids", "completion_ids"),
    ("prompt_ids", "chosen_ids"),
    ("prompt_ids", "rejected_ids"),
    ("chosen_ids",),
    ("rejected_ids",),
    ("prompt",),
)
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Training and evaluation rows with the report of the preparation.

    Columns are `input_ids` and `labels` (-100: not trained); of pairs `prompt_ids`, `chosen_ids` and `rejected_ids`,
    for reward without `prompt_ids`, as the prompt stands in both; for kto `prompt_ids`, `completion_ids` and `label`;
    of the stages that write their own answers `prompt` (ids) and `answer` (a text, empty where there is none).
    """

    train: Dataset
    eval: Dataset | None
    report: data_report_pb2.DataReport

    @staticmethod
    def load(folder: Path) -> Rows:
        """Opens what the preparation left. Raises Refused when it is gone."""
        try:
            report = json_format.Parse((folder / "report.json").read_text(), data_report_pb2.DataReport())
            # There are none to train on where a model is only evaluated.
            train = load_from_disk(str(folder / "train")) if (folder / "train").is_dir() else Dataset.from_dict({})
            evaluation = load_from_disk(str(folder / "eval")) if (folder / "eval").is_dir() else None
        except (OSError, ValueError, json_format.ParseError) as error:
            raise Refused(
                event_pb2.FAILURE_CLASS_INTERNAL,
                f"the prepared rows of this job cannot be read: {error}",
                "submit the job again; its data will be prepared anew",
            ) from error
        return Rows(train, evaluation, report)

    def packed(self, length: int, scratch: Path) -> Rows:
        """The training rows joined to sequences of at most `length` tokens, best fit decreasing."""
        packed = pack_dataset(self.train, length, "bfd", {"cache_file_name": str(scratch)})
        # The mapping keeps the bytes; the name would outlive the job.
        scratch.unlink(missing_ok=True)
        return replace(self, train=packed)


def lengths(dataset: Dataset) -> NDArray[numpy.int64]:
    """Tokens of each row; of a pair, of its longer sequence."""
    sums = [columns for columns in _LENGTHS if set(columns) <= set(dataset.column_names)]
    found = [numpy.zeros(0, dtype=numpy.int64)]
    for table in dataset.with_format("arrow").iter(_ROWS_AT_ONCE):
        counts = [sum(compute.list_value_length(table[name]).to_numpy() for name in columns) for columns in sums]
        found.append(numpy.max(counts, axis=0).astype(numpy.int64))
    return numpy.concatenate(found)


class ByLength(Sampler[int]):
    """All rows, those of like length in one update. Each epoch draws anew, by the seed and its number."""

    def __init__(self, lengths: NDArray[numpy.int64], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = lengths.tolist(), batch, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self._seed + self._epoch)
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=chance))

    def set_epoch(self, epoch: int) -> None:
        """A training that is resumed in this epoch has its order."""
        self._epoch = epoch
