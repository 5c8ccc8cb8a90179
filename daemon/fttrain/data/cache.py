"""The cache of prepared rows: folders named by everything that went into them.

A folder gets its name when it is whole and on disk, so a reader never sees half of one. Of two jobs that prepare the
same rows at once the first wins and the other uses its folder. It must never change a folder that has its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from finetuned.v1 import data_report_pb2, training_pb2
from fttrain.data.asking import Asking
from fttrain.data.dropped import Dropped
from fttrain.data.readers import kind_of
from fttrain.data.sources import Source
from fttrain.files import sync_folder, write_message

# Of how rows are made; raise it with every change that makes other rows of the same input.
_VERSION = 2
_REPORT = "report.json"
_DROPPED = "dropped.jsonl"
_TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.py", "*_templates/*.jinja")
_NOT_TOKENIZER = ("generation_config.json", "*.index.json", "README.*", "LICENSE*")


def digest(spec: training_pb2.TrainingSpec, sources: list[Source], model: Path, template: str | None) -> str:
    """Content address of the rows that this spec, these files and this tokenizer make: SHA-256 in hexadecimal."""
    settings: dict[str, Any] = {
        "version": _VERSION,
        "libraries": {name: version(name) for name in ("transformers", "tokenizers")},
        "sources": [_source(source) for source in sources],
        "tokenizer": {str(path.relative_to(model)): _sha256(path) for path in _tokenizer_files(model)},
        "template": template,
        "stage": spec.WhichOneof("stage"),
        "sft": json_format.MessageToDict(spec.sft),
        "asking": asdict(asking) if (asking := Asking.of(spec)) else None,
        "data": _settings(spec.data),
        "seed": spec.seed,
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def find(root: Path, name: str, sources: list[Source], dropped: Path) -> data_report_pb2.DataReport | None:
    """The report of rows that are in the cache already, told of this job's paths; None if they are not.

    The list of rows that were left out is copied to `dropped`, where there is one.
    """
    folder = root / name
    try:
        report = json_format.Parse((folder / _REPORT).read_text(), data_report_pb2.DataReport())
        # What was used last is kept longest.
        os.utime(folder / _REPORT)
        if (folder / _DROPPED).exists():
            shutil.copyfile(folder / _DROPPED, dropped)
    except FileNotFoundError:
        return None
    files = (file for source in sources for file in source.files)
    for found, file in zip(report.sources, files, strict=True):
        found.path = file.report.path
    report.from_cache = True
    return report


@contextmanager
def new_entry(root: Path, name: str, job_id: str) -> Iterator[Path]:
    """A folder to fill, which becomes `root/name` when the block ends well and is removed when it does not."""
    root.mkdir(parents=True, exist_ok=True)
    # Named by the job: what a killed preparation left is removed when the job is prepared again.
    folder = root / f".{name}.{job_id}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        for path in folder.rglob("*"):
            _sync(path)
        sync_folder(folder)
        _publish(folder, root / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_report(folder: Path, report: data_report_pb2.DataReport, dropped: Dropped) -> None:
    """Puts the report beside the rows it tells of, and the list of those that were left out."""
    dropped.copy(folder / _DROPPED)
    write_message(folder / _REPORT, report)


def _publish(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # Another job was faster with the same rows.
        if not (target / _REPORT).exists():
            raise
    sync_folder(target.parent)


def _settings(data: training_pb2.Data) -> dict[str, Any]:
    """All but the sources and paths, which are there by their content."""
    settings = json_format.MessageToDict(data)
    return {name: value for name, value in settings.items() if name not in ("train", "eval", "chatTemplatePath")}


def _source(source: Source) -> dict[str, Any]:
    spec = json_format.MessageToDict(source.spec)
    for name in ("path", "files", "datasetInfo", "dataset"):
        spec.pop(name, None)
    files = [(kind_of(file.path), file.report.sha256) for file in source.files]
    return {**spec, "split": source.field.partition("[")[0], "files": files}


def _tokenizer_files(model: Path) -> list[Path]:
    found = {path for pattern in _TOKENIZER_FILES for path in model.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not any(path.match(pattern) for pattern in _NOT_TOKENIZER))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
    else:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
