"""The second reading: the rows that were chosen, tokenised many at once and written as training and evaluation rows.

It must never hold more rows than one batch, however large the sources are.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from finetuned.v1 import data_report_pb2, training_pb2
from fttrain.data import choice, workers
from fttrain.data.forms import Form
from fttrain.data.limits import TooLong, fitted
from fttrain.data.problems import BadRow, counted, listed, refused
from fttrain.data.rows import RowWriter, shared
from fttrain.data.sources import Place, Progress, Source
from fttrain.data.tokens import Encoded, IdPair, Tokens
from fttrain.data.workers import Batch

# Many enough for the tokenizer to be quick, few enough to be nothing beside the library itself.
_ROWS_AT_ONCE = 512
# Rows of a source: how often each is trained on, and which of them are held back instead.
Picks = tuple["array[int]", bytearray]
# The same of one row, with its place.
Pick = tuple[Place, int, int]


class Splits:
    """The splits of one preparation, below a folder."""

    def __init__(
        self,
        spec: training_pb2.TrainingSpec,
        sources: Sequence[Source],
        tokens: Tokens,
        folder: Path,
        progress: Progress,
        *,
        threads: int = 1,
    ) -> None:
        self._data = spec.data
        self._seed = spec.seed
        self._stage = str(spec.WhichOneof("stage"))
        self._training = [source for source in sources if source.field.startswith("data.train")]
        self._evaluating = list(sources[len(self._training) :])
        self._tokens = tokens
        self._progress = progress
        self._threads = threads
        pack_to = self._data.max_length if self._data.packing else None
        # An evaluation has nothing to train on.
        self._train = RowWriter(folder / "train", self._stage, pack_to=pack_to) if self._training else None
        held = bool(self._evaluating) or any(source.spec.eval_split for source in self._training)
        # The trainer packs no evaluation rows: their losses stay those of the rows as given.
        self._eval = RowWriter(folder / "eval", self._stage) if held else None
        self._sets: list[data_report_pb2.EvaluationSet] = []

    def write(self) -> data_report_pb2.DataReport:
        """Writes all rows, and tells what went into each split. Raises Refused when nothing is left of one."""
        picks = self._picks()
        named = any(source.spec.name for source in self._training)
        for index, (source, picked) in enumerate(zip(self._training, picks, strict=True)):
            self._write(source, picked, (source.spec.name or str(index)) if named else "eval_split")
        for index, source in enumerate(self._evaluating):
            times = _drawn(source, self._seed)
            held = bytearray(min(seen, 1) for seen in times)
            self._write(source, (array("I", [0]) * source.usable, held), source.spec.name or str(index))
        if self._train:
            self._close(self._train, self._training, "data.train")
        if self._eval:
            evaluating = self._evaluating or self._training
            self._close(self._eval, evaluating, "data.eval" if self._evaluating else "data.eval_split")
        return data_report_pb2.DataReport(
            train=self._train.report if self._train else None,
            eval=self._eval.report if self._eval else None,
            evaluation_sets=[each for each in self._sets if each.rows],
            remarks=[*self._tokens.remarks, *self._leaks()],
        )

    def _picks(self) -> list[Picks]:
        """Of each training source; what is held back is never trained on."""
        held, kept = [], []
        for source in self._training:
            times = _drawn(source, self._seed)
            rows = array("Q", (index for index, seen in enumerate(times) if seen))
            flags = choice.held_back(len(rows), source.spec.eval_split, f"{self._seed}/eval")
            aside = bytearray(source.usable)
            for index, flag in zip(rows, flags, strict=True):
                aside[index] = flag
            held.append(aside)
            kept.append(array("Q", (i for i, seen in enumerate(times) for _ in range(seen) if not aside[i])))
        totals = self._totals([len(rows) for rows in kept])
        return [
            (choice.spread_over(rows, source.usable, total, f"{self._seed}/{source.field}"), aside)
            for source, rows, aside, total in zip(self._training, kept, held, totals, strict=True)
        ]

    def _totals(self, counts: list[int]) -> list[int]:
        """Rows that each training source gives to an epoch."""
        weights = [source.spec.weight for source in self._training]
        if self._data.mixing in (training_pb2.MIXING_INTERLEAVE_UNDER, training_pb2.MIXING_INTERLEAVE_OVER):
            over = self._data.mixing == training_pb2.MIXING_INTERLEAVE_OVER
            return choice.interleaved(counts, weights, f"{self._seed}/mixing", over=over)
        return [round(count * weight) for count, weight in zip(counts, weights, strict=True)]

    def _write(self, source: Source, picks: Picks, held_name: str) -> None:
        """Tokenises a source's rows: those marked go to the evaluation rows once, the others are trained on."""
        before = self._eval.report.rows if self._eval else 0
        too_long: list[int] = []
        for batch, encoded in self._encoded(source, picks):
            for ((place, times, aside), _), row in zip(batch, encoded, strict=True):
                try:
                    self._add(row, times, aside)
                except TooLong as bad:
                    if self._data.long_rows == training_pb2.LONG_ROWS_REFUSE:
                        too_long.append(place[1])
                    else:
                        source.drop(place, str(bad), asked=True)
                except BadRow as bad:
                    source.drop(place, str(bad))
                else:
                    place[0].report.rows_used += 1
        if too_long:
            limit, numbers = self._data.max_length, listed(map(str, too_long))
            raise refused(
                f"{source.where} has {counted(len(too_long))} over data.max_length {limit}, numbered {numbers}",
                "raise data.max_length, or set data.long_rows to truncate or drop",
            )
        if self._eval:
            self._count(held_name, self._eval.report.rows - before)

    def _encoded(self, source: Source, picks: Picks) -> Iterator[tuple[Batch[Pick], list[Encoded | BadRow]]]:
        """The source's chosen rows, a batch at a time."""
        rows = self._picked(source, picks)
        batches = iter(lambda: list(islice(rows, _ROWS_AT_ONCE)), [])
        return workers.encoded(self._tokens, batches, workers.processes(self._threads, source.usable))

    def _picked(self, source: Source, picks: Picks) -> Iterator[tuple[Pick, Form]]:
        for (place, form), times, aside in zip(source.forms(self._progress), *picks, strict=True):
            self._tokens.need_template(form, source.where)
            if times or aside:
                yield (place, times, aside), form

    def _add(self, row: Encoded | BadRow, times: int, aside: int) -> None:
        if isinstance(row, BadRow):
            raise row
        row, measures = fitted(row, self._data.max_length, self._data.long_rows)
        written = row.whole() if self._stage == "reward" and isinstance(row, IdPair) else row
        if aside and self._eval:
            self._eval.add(written, measures)
        if self._train and not aside:
            for index in range(times):
                self._train.add(written, measures, again=index > 0)

    def _count(self, name: str, rows: int) -> None:
        """Adds evaluation rows to the set of this name, which are those written last."""
        if self._sets and self._sets[-1].name == name:
            self._sets[-1].rows += rows
        else:
            self._sets.append(data_report_pb2.EvaluationSet(name=name, rows=rows))

    def _leaks(self) -> Iterator[str]:
        """Whether evaluation tells less than it seems to."""
        if self._eval and self._train and (both := shared(self._eval.fingerprints, self._train.fingerprints)):
            yield f"{counted(both)} for evaluation are also trained on"

    def _close(self, writer: RowWriter, sources: list[Source], field: str) -> None:
        if writer.report.rows:
            writer.close()
        elif field == "data.eval_split" and all(source.usable == 1 for source in sources):
            raise refused("data.eval_split: there is one row, which cannot be split", "set data.eval_split to 0")
        else:
            worst = max(sources, key=lambda source: source.rows_dropped)
            advice = "mend the rows, or raise data.max_length if it cuts their answers off"
            raise worst.nothing_left("has a token to train on", advice)


def _drawn(source: Source, seed: int) -> array[int]:
    """How often each usable row of a source is taken, before its weight."""
    spec, total = source.spec, source.usable
    if spec.HasField("num_samples"):
        total = spec.num_samples
    elif spec.shuffle:
        total = min(total, spec.max_samples)
    return choice.spread(source.usable, total, f"{seed}/{source.field}/drawn")
