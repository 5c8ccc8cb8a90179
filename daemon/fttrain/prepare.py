"""The preparation of a job, as a rank on the CPU: checks its data, tokenises it into the cache and tells what it found.

Bad input is told before the tokenizer's library is loaded, and rows that are in the cache are not read again. It must
never need a GPU or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from pathlib import Path

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_report_pb2, event_pb2, training_pb2
from fttrain import origins, rank
from fttrain.data import cache, choice
from fttrain.data.limits import TooLong, fitted
from fttrain.data.problems import BadRow, counted, listed, refused
from fttrain.data.rows import RowWriter
from fttrain.data.sources import DROPPED_SHOWN, Source
from fttrain.data.tokens import IdPair, Tokens, load_tokenizer, transformers_without_torch
from fttrain.failure import Refused
from fttrain.report import Report

_TOKENIZER_PATTERNS = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
_STAGE_TAKES = {
    "sft": ("alpaca", "sharegpt", "messages", "prompt_completion", "text"),
    "pretrain": ("text",),
    "reward": ("preference",),
    "dpo": ("preference",),
    "kto": ("kto",),
    "orpo": ("preference",),
    "cpo": ("preference",),
}


class Stopped(Exception):
    """Somebody asked to stop."""


class Meter:
    """Tells the share of a phase that is done, in steps of 2 % at least, and notices a request to stop."""

    def __init__(self, report: Report, phase: event_pb2.Phase.ValueType, total: int) -> None:
        self._report = report
        self._phase = phase
        self._total = total
        self._step = max(1, total // 50)
        self._done = 0
        report.phase(phase, 0.0)

    def __call__(self) -> None:
        """One more is done."""
        self._done += 1
        if self._done % self._step == 0:
            self._report.phase(self._phase, min(1.0, self._done / self._total))
        if rank.stops.asked:
            raise Stopped


def main() -> None:
    """Runs this process as the rank that prepares."""
    rank.run(body)


def body(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """`prepare` in a process of its own."""
    try:
        return prepare(bootstrap, report, without_torch=not bootstrap.allow_remote_code)
    except Stopped:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)


def prepare(bootstrap: trainer_pb2.Bootstrap, report: Report, *, without_torch: bool = False) -> trainer_pb2.RankResult:
    """Prepares the rows of a resolved spec. Raises Refused when they cannot be used, and Stopped when asked to stop.

    `without_torch` is for a process that does nothing else: see `tokens.transformers_without_torch`.
    """
    spec, root = bootstrap.spec, Path(bootstrap.prepared_root)
    report.phase(event_pb2.PHASE_READING_DATA)
    sources = [Source(source, field, index) for index, (field, source) in enumerate(_fields(spec.data))]
    model, template = _model_folder(bootstrap), _template(spec.data)
    name = cache.digest(spec, sources, model, template)
    found = cache.find(root, name, sources)
    if found is None:
        _check(spec, sources, report)
        if without_torch:
            transformers_without_torch()
        tokens = Tokens(load_tokenizer(model, allow_remote_code=bootstrap.allow_remote_code), template, _train_on(spec))
        with cache.new_entry(root, name, bootstrap.job_id) as folder:
            found = _Preparation(spec, sources, tokens, folder, report).run(name)
            cache.write_report(folder, found)
    report.data(found)
    return trainer_pb2.RankResult(
        outcome=event_pb2.OUTCOME_COMPLETED,
        data=found,
        prepared_directory=str(root / name),
        lineage=origins.lineage(spec, found.digest, root.with_name("digests")),
    )


def _check(spec: training_pb2.TrainingSpec, sources: list[Source], report: Report) -> None:
    """Settles each source's format and counts its rows."""
    stage = str(spec.WhichOneof("stage"))
    taken = _STAGE_TAKES[stage]
    for source in sources:
        source.tell(taken)
        if source.layout.name not in taken:
            accepted = " or ".join(filter(None, (", ".join(taken[:-1]), taken[-1])))
            raise refused(
                f"{source.where} holds {source.layout.name} rows; the stage {stage} takes {accepted}",
                "set another stage, or give rows of such a format",
            )
        if not source.spec.format:
            report.notice(f"{source.where} is read as {source.layout.name}, told by its columns")
        source.check(_until_stopped)


def _until_stopped() -> None:
    if rank.stops.asked:
        raise Stopped


class _Preparation:
    """The second reading: tokenises the rows that were chosen and writes them."""

    def __init__(
        self, spec: training_pb2.TrainingSpec, sources: list[Source], tokens: Tokens, folder: Path, report: Report
    ) -> None:
        self._data = spec.data
        self._seed = spec.seed
        self._sources = sources
        self._tokens = tokens
        self._meter = Meter(report, event_pb2.PHASE_TOKENIZING, sum(source.report.rows_read for source in sources))
        self._stage = str(spec.WhichOneof("stage"))
        self._pack_to = spec.data.max_length if spec.data.packing else None
        self._folder = folder
        # Rows written of each source of data.eval.
        self._evaluated: list[int] = []

    def run(self, name: str) -> data_report_pb2.DataReport:
        """Writes the splits below the folder and tells what went in."""
        training = [source for source in self._sources if source.field.startswith("data.train")]
        evaluating = self._sources[len(training) :]
        train = RowWriter(self._folder / "train", self._stage, pack_to=self._pack_to)
        held_out = None
        if evaluating or self._data.eval_split:
            # The trainer packs no evaluation rows: their losses stay those of the rows as given.
            held_out = RowWriter(self._folder / "eval", self._stage)
        held = iter(choice.held_back(sum(s.usable for s in training), self._data.eval_split, f"{self._seed}/eval"))
        for source in training:
            self._write(source, train, held_out, islice(held, source.usable))
        for source in evaluating:
            before = (held_out or train).report.rows
            self._write(source, held_out or train, None, repeat(0))
            self._evaluated.append((held_out or train).report.rows - before)
        self._close(train, training, "data.train")
        if held_out:
            self._close(held_out, evaluating or training, "data.eval" if evaluating else "data.eval_split")
        return data_report_pb2.DataReport(
            train=train.report,
            eval=held_out.report if held_out else None,
            sources=[source.report for source in self._sources],
            dropped=list(chain.from_iterable(source.dropped for source in self._sources))[:DROPPED_SHOWN],
            digest=name,
            evaluation_sets=self._sets(evaluating, held_out),
        )

    def _sets(self, evaluating: list[Source], held_out: RowWriter | None) -> list[data_report_pb2.EvaluationSet]:
        if held_out is None:
            return []
        if not evaluating:
            return [data_report_pb2.EvaluationSet(name="eval_split", rows=held_out.report.rows)]
        names = [str(index) for index in range(len(evaluating))]
        found = zip(names, self._evaluated, strict=True)
        return [data_report_pb2.EvaluationSet(name=name, rows=rows) for name, rows in found if rows]

    def _write(self, source: Source, seen: RowWriter, held_out: RowWriter | None, held: Iterable[int]) -> None:
        """Tokenises a source's rows. Those marked in `held` go to `held_out` once, the others to `seen` by weight."""
        times = choice.copies(source.usable, source.spec.weight, f"{self._seed}/{source.field}")
        too_long: list[int] = []
        for (number, form), copies, aside in zip(source.forms(self._meter), times, held, strict=False):
            self._tokens.need_template(form, source.where)
            if not (copies or aside):
                continue
            try:
                row, measures = fitted(self._tokens.encode(form), self._data.max_length, self._data.long_rows)
            except TooLong:
                too_long.append(number)
            except BadRow as bad:
                source.drop(number, str(bad))
            else:
                source.report.rows_used += 1
                written = row.whole() if self._stage == "reward" and isinstance(row, IdPair) else row
                for _ in range(1 if aside else copies):
                    (held_out if aside and held_out else seen).add(written, measures)
        if too_long:
            limit, rows = self._data.max_length, listed(map(str, too_long))
            raise refused(
                f"{source.where} has {counted(len(too_long))} over data.max_length {limit}, numbered {rows}",
                "raise data.max_length, or set data.long_rows to truncate or drop",
            )

    def _close(self, writer: RowWriter, sources: list[Source], field: str) -> None:
        if writer.report.rows:
            writer.close()
        elif sum(source.usable for source in sources) == 1 and field == "data.eval_split":
            raise refused("data.eval_split: there is one row, which cannot be split", "set data.eval_split to 0")
        else:
            worst = max(sources, key=lambda source: source.report.rows_dropped)
            advice = "mend the rows, or raise data.max_length if it cuts their answers off"
            raise worst.nothing_left("has a token to train on", advice)


def _fields(data: training_pb2.Data) -> Iterator[tuple[str, training_pb2.DataSource]]:
    for split, sources in (("train", data.train), ("eval", data.eval)):
        for index, source in enumerate(sources):
            yield f"data.{split}[{index}]", source


def _train_on(spec: training_pb2.TrainingSpec) -> training_pb2.TrainOn.ValueType:
    return spec.sft.train_on if spec.WhichOneof("stage") == "sft" else training_pb2.TRAIN_ON_ALL


def _template(data: training_pb2.Data) -> str | None:
    """The chat template that replaces the tokenizer's own; None: its own."""
    if not data.HasField("chat_template_path"):
        return None
    try:
        return Path(data.chat_template_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise refused(
            f"data.chat_template_path: {data.chat_template_path} cannot be read: {error}", "give a Jinja file in UTF-8"
        ) from error


def _model_folder(bootstrap: trainer_pb2.Bootstrap) -> Path:
    """Where the tokenizer is; of a hub model only what it needs is fetched."""
    model = bootstrap.spec.model
    if folder := origins.tokenizer_folder(bootstrap.spec):
        return folder
    if not bootstrap.allow_hub:
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"model.hub_id: {model.hub_id} is on a hub, which this host does not use",
            "set model.path to a folder on the host",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(model.hub_id, revision=model.revision or None, allow_patterns=_TOKENIZER_PATTERNS)
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise Refused(
            event_pb2.FAILURE_CLASS_MODEL_LOAD,
            f"model.hub_id: the tokenizer of {model.hub_id} cannot be fetched: {error}",
            "check the name and the network, or set model.path",
        ) from error


if __name__ == "__main__":
    main()
