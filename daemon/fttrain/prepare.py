"""The preparation of a job, as a rank on the CPU: checks its data, tokenises it into the cache and tells what it found.

Bad input is told before the tokenizer's library is loaded, and rows that are in the cache are not read again. It must
never need a GPU or torch.
"""

from __future__ import annotations

from pathlib import Path

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_report_pb2, event_pb2, training_pb2
from fttrain import inference, origins, rank
from fttrain.data import cache, remote, templates
from fttrain.data.asking import STAGES, Asking
from fttrain.data.dropped import Dropped
from fttrain.data.masks import Mask
from fttrain.data.problems import counted, listed, refused
from fttrain.data.rendering import Renderer
from fttrain.data.sources import Source
from fttrain.data.splits import Splits
from fttrain.data.tokens import Tokens, load_tokenizer, transformers_without_torch
from fttrain.failure import Refused
from fttrain.preview import preview
from fttrain.report import Report

_TOKENIZER_PATTERNS = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
_TURNS_AND_TEXTS = ("alpaca", "sharegpt", "messages", "prompt_completion", "text")
_STAGE_TAKES = {
    "sft": _TURNS_AND_TEXTS,
    "evaluate": _TURNS_AND_TEXTS,
    "pretrain": ("text",),
    "reward": ("preference",),
    "dpo": ("preference",),
    "kto": ("kto",),
    "orpo": ("preference",),
    "cpo": ("preference",),
    **dict.fromkeys(STAGES, ("prompt", "alpaca", "sharegpt", "messages", "prompt_completion")),
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
    """`prepare`, or `show` where that is asked for, in a process of its own."""
    work = show if bootstrap.HasField("preview") else prepare
    try:
        return work(bootstrap, report, without_torch=not bootstrap.allow_remote_code)
    except Stopped:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)


def prepare(bootstrap: trainer_pb2.Bootstrap, report: Report, *, without_torch: bool = False) -> trainer_pb2.RankResult:
    """Prepares the rows of a resolved spec. Raises Refused when they cannot be used, and Stopped when asked to stop.

    `without_torch` is for a process that does nothing else: see `tokens.transformers_without_torch`.
    """
    spec, root = bootstrap.spec, Path(bootstrap.prepared_root)
    if spec.WhichOneof("stage") in inference.ROWLESS:
        return _nothing(bootstrap)
    report.phase(event_pb2.PHASE_READING_DATA)
    with _dropped(bootstrap) as dropped, remote.folder_of(root, bootstrap.job_id) as fetched:
        sources = _sources(bootstrap, dropped, fetched)
        model, template = _model_folder(bootstrap), templates.text(spec.data)
        name = cache.digest(spec, sources, model, template)
        found = cache.find(root, name, sources, dropped.path)
        if found is None:
            _check(spec, sources, dropped, report)
            if without_torch:
                transformers_without_torch()
            tokens = make_tokens(bootstrap, model)
            with cache.new_entry(root, name, bootstrap.job_id) as folder:
                meter = Meter(report, event_pb2.PHASE_TOKENIZING, sum(source.rows_read for source in sources))
                found = Splits(spec, sources, tokens, folder, meter, threads=bootstrap.threads).write()
                _check_strict(spec.data, dropped)
                found.sources.extend(file.report for source in sources for file in source.files)
                found.dropped.extend(dropped.shown)
                found.digest = name
                cache.write_report(folder, found, dropped)
    report.data(found)
    return trainer_pb2.RankResult(
        outcome=event_pb2.OUTCOME_COMPLETED,
        data=found,
        prepared_directory=str(root / name),
        lineage=origins.lineage(spec, found.digest, root.with_name("digests")),
    )


def _nothing(bootstrap: trainer_pb2.Bootstrap) -> trainer_pb2.RankResult:
    """Of a job without rows only where its weights come from is found out."""
    return trainer_pb2.RankResult(
        outcome=event_pb2.OUTCOME_COMPLETED,
        data=data_report_pb2.DataReport(),
        prepared_directory=bootstrap.run_directory,
        lineage=origins.lineage(bootstrap.spec, "", Path(bootstrap.prepared_root).with_name("digests")),
    )


def show(bootstrap: trainer_pb2.Bootstrap, report: Report, *, without_torch: bool = False) -> trainer_pb2.RankResult:
    """Shows rows as `prepare` would write them, and writes none. Raises Refused as it would."""
    spec, wanted = bootstrap.spec, bootstrap.preview
    report.phase(event_pb2.PHASE_READING_DATA)
    folder = remote.folder_of(Path(bootstrap.prepared_root), bootstrap.job_id)
    with _dropped(bootstrap) as dropped, folder as fetched:
        sources = {source.field: source for source in _sources(bootstrap, dropped, fetched)}
        if wanted.source not in sources:
            raise refused(f"there is no source {wanted.source}", f"name one of {listed(sources)}")
        source = sources[wanted.source]
        _settle(source, spec, report)
        if without_torch:
            transformers_without_torch()
        tokens = make_tokens(bootstrap, _model_folder(bootstrap))
        rows = preview(source, tokens, spec.data, wanted)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED, previewed=rows)


def make_tokens(bootstrap: trainer_pb2.Bootstrap, model: Path) -> Tokens:
    """What makes tokens of the job's rows: the model's tokenizer with the job's template and mask. Raises Refused."""
    spec = bootstrap.spec
    tokenizer = load_tokenizer(model, allow_remote_code=bootstrap.allow_remote_code)
    templates.put_on(tokenizer, spec.data)
    return Tokens(tokenizer, Renderer(tokenizer, spec.data), Mask.of(spec), Asking.of(spec))


def _dropped(bootstrap: trainer_pb2.Bootstrap) -> Dropped:
    return Dropped(Path(bootstrap.run_directory) / "dropped.jsonl")


def _sources(bootstrap: trainer_pb2.Bootstrap, dropped: Dropped, fetched: Path) -> list[Source]:
    """The sources of training, then those of evaluation. What lies behind a URL is fetched first."""
    data, sources = bootstrap.spec.data, list[Source]()
    for split, given in (("train", data.train), ("eval", data.eval)):
        for index, source in enumerate(given):
            field, before = f"data.{split}[{index}]", sum(len(each.files) for each in sources)
            # A spec that an earlier daemon resolved names no files.
            paths = source.files or [source.path]
            if "://" in source.path:
                folder = fetched / str(before)
                paths = [str(remote.fetch(source.path, field, folder, bootstrap.fetched_bytes, _until_stopped))]
            sources.append(Source(source, field, before, dropped, paths))
    return sources


def _check(spec: training_pb2.TrainingSpec, sources: list[Source], dropped: Dropped, report: Report) -> None:
    """Settles each source's format and counts its rows."""
    for source in sources:
        _settle(source, spec, report)
        source.check(_until_stopped)
    _check_strict(spec.data, dropped)


def _settle(source: Source, spec: training_pb2.TrainingSpec, report: Report) -> None:
    """Settles a source's format. Raises Refused when the stage cannot train on it."""
    stage = str(spec.WhichOneof("stage"))
    taken = _STAGE_TAKES[stage]
    source.tell(taken)
    if source.layout.name not in taken:
        accepted = " or ".join(filter(None, (", ".join(taken[:-1]), taken[-1])))
        raise refused(
            f"{source.where} holds {source.layout.name} rows; the stage {stage} takes {accepted}",
            "set another stage, or give rows of such a format",
        )
    if not source.spec.format:
        report.notice(f"{source.where} is read as {source.layout.name}, {source.files[0].report.decided}")


def _check_strict(data: training_pb2.Data, dropped: Dropped) -> None:
    """Raises Refused where the spec bears no bad row and there are some."""
    if data.strict and dropped.bad:
        raise refused(
            f"data.strict: {counted(dropped.bad)} cannot be used, the first is {dropped.first_bad}",
            f"mend the rows, all listed in {dropped.path.name} in the job's run directory, or set data.strict to false",
        )


def _until_stopped() -> None:
    if rank.stops.asked:
        raise Stopped


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
