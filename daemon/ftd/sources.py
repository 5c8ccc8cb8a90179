"""From the data sources of a spec to what they mean on this host: entries of a dataset_info.json read, files found.

The preparation is told every file, so what is read is what was looked at here. It must never look into a file of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from ftd import dataset_info
from ftd.datafiles import data_files
from ftd.datasets import Data, DataSource
from ftd.errors import Violation
from ftd.limits import is_url, is_usable_path, shown
from ftd.paths import PathRefused, Roots
from ftd.urls import check_url

_INFO_BYTES = 4 * 1024**2
# What an entry of a dataset_info.json says itself.
_OF_THE_ENTRY = ("path", "format", "columns", "speakers", "num_samples")


@dataclass(frozen=True, slots=True)
class Sent:
    """A data set that was uploaded: its contents, and the file that has them."""

    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class SourceFinder:
    """Finds sources below these folders, at URLs that begin with one of `urls`, and among the data sets `sent`."""

    roots: Roots
    urls: tuple[str, ...]
    sent: Mapping[str, Sent] = field(default_factory=dict)

    def find(self, data: Data, *, pretrain: bool) -> tuple[Data, list[Violation]]:
        """The data with every source spelled out, and what is wrong with those that cannot be."""
        problems: list[Violation] = []

        def spelled_out(split: str, sources: tuple[DataSource, ...]) -> Iterator[DataSource]:
            for index, source in enumerate(sources):
                try:
                    yield self._found(source, pretrain=pretrain)
                except _Refused as refused:
                    problems.append(Violation(f"training.data.{split}[{index}].{refused.field}", refused.text))
                    yield source

        train, evaluation = tuple(spelled_out("train", data.train)), tuple(spelled_out("eval", data.eval))
        return replace(data, train=train, eval=evaluation), problems

    def _found(self, source: DataSource, *, pretrain: bool) -> DataSource:
        if source.files:
            raise _Refused("files", "is the daemon's to say; leave it out")
        if source.dataset is not None:
            return self._sent(source, source.dataset)
        field = "path"
        if source.dataset_info is not None:
            source, field = self._entry(source, source.dataset_info, pretrain=pretrain), "dataset_info"
        try:
            if is_url(source.path):
                check_url(source.path, self.urls)
                return source
            # What is no path by its text has its violation already.
            return replace(source, files=data_files(source.path, self.roots)) if is_usable_path(source.path) else source
        except PathRefused as refused:
            where = f"names {source.path}, which " if field == "dataset_info" else ""
            raise _Refused(field, f"{where}{refused}") from None

    def _sent(self, source: DataSource, name: str) -> DataSource:
        for beside in ("path", "dataset_info"):
            if getattr(source, beside):
                raise _Refused(beside, "stands beside dataset, which says where the rows are; leave it out")
        found = self.sent.get(name)
        if found is None:
            text = f"is {shown(name)}, but no such data set is here; `ftctl data list` has their names"
            raise _Refused("dataset", f"{text}, and `ftctl data upload` sends one")
        return replace(source, dataset=found.sha256, path=found.path, files=(found.path,))

    def _entry(self, source: DataSource, path: str, *, pretrain: bool) -> DataSource:
        beside = [name for name in _OF_THE_ENTRY if getattr(source, name) not in (None, "")]
        if beside:
            raise _Refused(beside[0], "stands beside dataset_info, whose entry says it; leave it out")
        if source.name is None:
            raise _Refused("name", "is missing; with dataset_info it is the name of the data set there")
        if not is_usable_path(path):
            raise _Refused("dataset_info", f"is {path!r}; accepted is an absolute path")
        try:
            sets = json.loads(self.roots.read(path, _INFO_BYTES))
            entry = dataset_info.source(sets, source.name, str(PurePosixPath(path).parent), pretrain=pretrain)
        except (PathRefused, dataset_info.NotASource) as refused:
            raise _Refused("dataset_info", str(refused)) from None
        except (ValueError, RecursionError) as error:
            raise _Refused("dataset_info", f"is not JSON: {error}; accepted is LLaMA-Factory's file") from None
        given = {name: getattr(entry, name) for name in _OF_THE_ENTRY}
        return replace(source, **given)


class _Refused(Exception):
    """What is wrong with a field of a source."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field
        self.text = text
