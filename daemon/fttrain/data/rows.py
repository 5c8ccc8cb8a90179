"""Writes prepared rows into a `datasets` folder as they come and counts what goes in.

The columns are those that TRL's collator of the stage takes. It must never hold more than one batch of rows.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetuned.v1 import data_report_pb2
from fttrain.data.asking import STAGES
from fttrain.data.limits import Measures
from fttrain.data.tokens import Example, IdAnswer, IdPair, IdPrompt, WholePair

_SEQUENCE = ("input_ids", "labels")
_PAIR = ("prompt_ids", "chosen_ids", "rejected_ids")
_PROMPT = ("prompt", "answer")
_FLAGS = ("label",)
_TEXTS = ("answer",)
COLUMNS = {
    "sft": _SEQUENCE,
    "evaluate": _SEQUENCE,
    "pretrain": _SEQUENCE,
    "reward": ("chosen_ids", "rejected_ids"),
    "dpo": _PAIR,
    "kto": ("prompt_ids", "completion_ids", "label"),
    "orpo": _PAIR,
    "cpo": _PAIR,
    **dict.fromkeys(STAGES, _PROMPT),
}
# TRL packs what one call of datasets' map sees, by default this many rows.
_PACKED_TOGETHER = 1000
_MOST_BINS = 12


Written = Example | IdPair | WholePair | IdAnswer | IdPrompt


class RowWriter:
    """One split. `report` counts the rows added so far."""

    def __init__(self, folder: Path, stage: str, *, pack_to: int | None = None) -> None:
        # Loaded here: most of a second that bad input must not wait for.
        from datasets import Features, List, Value
        from datasets.arrow_writer import ArrowWriter

        self.report = data_report_pb2.SplitReport()
        self._folder = folder
        self._stream = folder.with_suffix(".arrow")
        self._columns = COLUMNS[stage]
        self._pack_to = pack_to
        self._lengths = array("i")
        # Of each row that is not seen again: 8 bytes of its digest.
        self.fingerprints = array("Q")
        flags, texts = dict.fromkeys(_FLAGS, Value("bool")), dict.fromkeys(_TEXTS, Value("string"))
        kinds = {name: (flags | texts).get(name, List(Value("int32"))) for name in self._columns}
        self._writer = ArrowWriter(path=str(self._stream), features=Features(kinds))

    def add(self, row: Written, measures: Measures, *, again: bool = False) -> None:
        """Adds a row at the end; `again`: the same one as before, which is seen more than once."""
        if not again:
            self.fingerprints.append(_fingerprint(row, self._columns))
        self._writer.write({name: getattr(row, name) for name in self._columns})
        self._lengths.append(measures.longest)
        self.report.rows += 1
        self.report.tokens += measures.tokens
        self.report.trained_tokens += measures.trained
        self.report.longest_row_tokens = max(self.report.longest_row_tokens, measures.longest)
        self.report.truncated_rows += measures.truncated

    def close(self) -> None:
        """Makes the folder of what was added. With packing, the report counts the packed sequences from here on."""
        import datasets

        datasets.disable_progress_bars()
        self._writer.finalize()
        datasets.Dataset.from_file(str(self._stream)).save_to_disk(str(self._folder))
        self._stream.unlink()
        self.report.duplicate_rows = duplicates(self.fingerprints)
        self.report.lengths.extend(histogram(self._lengths))
        if self._pack_to:
            self.report.rows = packed(self._lengths, self._pack_to)


def duplicates(fingerprints: array[int]) -> int:
    """How many rows are there already. NumPy, since a set of Python's needs ten times as much memory for each."""
    import numpy

    return len(fingerprints) - numpy.unique(numpy.frombuffer(fingerprints, dtype=numpy.uint64)).size


def shared(fingerprints: array[int], others: array[int]) -> int:
    """How many rows are also among others."""
    import numpy

    ours, theirs = (numpy.frombuffer(each, dtype=numpy.uint64) for each in (fingerprints, others))
    return int(numpy.isin(ours, theirs).sum())


def histogram(lengths: Sequence[int]) -> list[data_report_pb2.LengthBin]:
    """How many rows are how long: bins of one width, 1, 2 or 5 times a power of ten, at most a dozen of them."""
    if not lengths:
        return []
    longest = max(lengths)
    widths = (step * 10**power for power in range(12) for step in (1, 2, 5))
    width = next(width for width in widths if width * _MOST_BINS >= longest)
    rows = Counter(-(-length // width) for length in lengths)
    return [data_report_pb2.LengthBin(up_to=width * i, rows=rows[i]) for i in range(1, -(-longest // width) + 1)]


def packed(lengths: Sequence[int], limit: int) -> int:
    """Number of sequences of at most `limit` tokens that TRL packs rows of these lengths into."""
    return sum(
        _bins(lengths[start : start + _PACKED_TOGETHER], limit) for start in range(0, len(lengths), _PACKED_TOGETHER)
    )


def _fingerprint(row: Written, columns: Sequence[str]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for name in columns:
        value = getattr(row, name)
        digest.update(_bytes(value) + b"|")
    return int.from_bytes(digest.digest())


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return array("q", value if isinstance(value, list) else [value]).tobytes()


def _bins(lengths: Sequence[int], limit: int) -> int:
    """Best fit decreasing: each row goes where it leaves the least room."""
    bins = 0
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect_left(free, length)
        if place < len(free):
            room = free.pop(place)
        else:
            room, bins = limit, bins + 1
        if room > length:
            insort(free, room - length)
    return bins
