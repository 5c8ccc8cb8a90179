"""The daemon's tables of formats, endings and names say what the trainers and their libraries do."""

from __future__ import annotations

from pathlib import Path

from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from finetuned.v1 import training_pb2
from ftd import limits
from ftd.datasets import Format
from ftd.validate.data import FORMAT_COLUMNS
from ftd.validate.outputs import GGUF_MODELS
from fttrain.data import readers, templates
from fttrain.data.formats import LAYOUTS
from fttrain.export import gguf


def test_each_format_has_the_columns_the_preparation_reads() -> None:
    theirs = {
        training_pb2.Format.Name(number).removeprefix("FORMAT_").lower(): {*layout.required, *layout.optional}
        for number, layout in LAYOUTS.items()
    }
    assert theirs == {str(f): set(columns) for f, columns in FORMAT_COLUMNS.items()}
    assert set(theirs) == {str(f) for f in Format}


def test_the_preparation_reads_files_of_each_ending() -> None:
    assert (*readers.TEXTS, *readers.TABLES) == limits.DATA_ENDINGS
    assert readers.COMPRESSED == limits.COMPRESSED
    for name in ("a.json", "a.JSONL.gz", "a.b.csv.zst", "a.parquet", "a.txt", "a"):
        assert readers.kind_of(Path(name)) == limits.ending(f"/d/{name}")


def test_gguf_files_are_written_of_each_type_that_is_accepted() -> None:
    assert tuple(gguf.FAMILIES) == GGUF_MODELS


def test_every_optimizer_and_schedule_is_known_to_transformers() -> None:
    assert set(limits.OPTIMIZERS) <= {name.value for name in OptimizerNames}
    assert set(limits.SCHEDULES) <= {name.value for name in SchedulerType}


def test_every_named_template_is_a_file_of_the_preparation() -> None:
    assert set(limits.TEMPLATES) == set(templates.TEMPLATES)
    files = {path.stem for path in templates._FOLDER.glob("*.jinja")}
    assert files == {template.file for template in templates.TEMPLATES.values()}
