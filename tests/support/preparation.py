"""What a preparation needs to run in a test: a spec with one source, a Bootstrap, and the rows it wrote, decoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2
from fttrain.journal import JournalWriter
from fttrain.prepare import prepare
from fttrain.report import Report

ROWS = Path(__file__).parents[1] / "data" / "rows"


def order(model: Path, folder: Path, *paths: Path, stage: str = "sft") -> trainer_pb2.Bootstrap:
    """A Bootstrap of attempt 0 whose spec trains on the files; tests change what they are about."""
    message = trainer_pb2.Bootstrap(
        job_id="jabcdefghk", run_directory=str(folder), prepared_root=str(folder / "prepared")
    )
    spec = message.spec
    spec.model.path = str(model)
    spec.seed = 42
    for path in paths:
        spec.data.train.add(path=str(path), weight=1, eval_split=0)
    spec.data.eval_split = 0
    spec.data.mixing = training_pb2.MIXING_CONCAT
    spec.data.strict = False
    spec.data.max_length = 512
    spec.data.long_rows = training_pb2.LONG_ROWS_TRUNCATE
    spec.data.packing = False
    getattr(spec, stage).SetInParent()
    if stage == "sft":
        spec.sft.train_on = training_pb2.TRAIN_ON_ASSISTANT
    return message


def prepared(message: trainer_pb2.Bootstrap) -> trainer_pb2.RankResult:
    """Runs the preparation in this process; its events are in events.journal."""
    with JournalWriter(Path(message.run_directory) / "events.journal") as journal:
        return prepare(message, Report(journal, 0))


def rows_of(result: trainer_pb2.RankResult, split: str = "train") -> Any:
    """The data set that was written."""
    from datasets import load_from_disk

    return load_from_disk(f"{result.prepared_directory}/{split}")


def trained(tokenizer: Any, input_ids: Sequence[int], labels: Sequence[int]) -> list[str]:
    """The texts the loss is computed on: each run of trained tokens, decoded."""
    assert all(label in (-100, token) for token, label in zip(input_ids, labels, strict=True))
    runs: list[list[int]] = []
    before = -100
    for label in labels:
        if label != -100:
            runs = [*runs, [label]] if before == -100 else [*runs[:-1], [*runs[-1], label]]
        before = label
    return [tokenizer.decode(run) for run in runs]


def jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Writes rows, one a line; a string is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def texts(path: Path, count: int) -> Path:
    """Writes so many rows of plain text, `row 1` and on."""
    return jsonl(path, [{"text": f"row {number}"} for number in range(1, count + 1)])


def decoded(result: trainer_pb2.RankResult, model: Path, split: str = "train") -> list[str]:
    """The prepared rows as text, without special tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows_of(result, split)["input_ids"]]
