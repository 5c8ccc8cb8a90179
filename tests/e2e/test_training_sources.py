"""From a folder and an entry of a dataset_info.json to updates: found as at submit, mixed, prepared, trained on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from tests.support.preparation import jsonl, prepared
from tests.support.training import QUESTIONS, bootstrap, losses, resolved_spec, train

from finetuned.v1 import training_pb2
from ftd.datasets import Data, DataSource, Mixing
from ftd.paths import Roots
from ftd.resolve import resolve
from ftd.sources import SourceFinder
from ftd.spec import DeviceKind, TrainingSpec
from ftd.wire import to_proto

# transformers 5 renames gradient checkpointing; peft 0.21 still uses the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def written(folder: Path) -> Path:
    """The questions as two alpaca files, the second packed, and as an Arrow file in a folder of conversations."""
    (folder / "asked").mkdir(parents=True)
    (folder / "talks").mkdir()
    rows = [{"instruction": question, "output": answer} for question, answer in QUESTIONS]
    jsonl(folder / "asked" / "1.jsonl", rows[:4])
    (folder / "asked" / "2.jsonl.gz").write_bytes(
        gzip.compress(json.dumps(rows[4:]).encode()[1:-1].replace(b"}, ", b"}\n"))
    )
    turns = [[{"who": "me", "says": question}, {"who": "it", "says": answer}] for question, answer in QUESTIONS]
    table = pyarrow.table({"turns": turns, "system": ["Never read."] * len(turns)})
    with pyarrow.ipc.new_stream(str(folder / "talks" / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    entry = {
        "file_name": "talks",
        "formatting": "sharegpt",
        "columns": {"messages": "turns"},
        "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "me", "assistant_tag": "it"},
        "num_samples": 12,
    }
    (folder / "dataset_info.json").write_text(json.dumps({"talks": entry}))
    return folder


@pytest.mark.parametrize("mixing", [Mixing.CONCAT, Mixing.INTERLEAVE_OVER])
def test_rows_of_every_kind_of_source_are_trained_on(
    smol_nano: Path,
    tmp_path: Path,
    mixing: Mixing,
) -> None:
    folder = written(tmp_path / "data")
    data = Data(
        train=(
            DataSource(f"{folder}/asked", name="asked", eval_split=0.25),
            DataSource(dataset_info=f"{folder}/dataset_info.json", name="talks"),
        ),
        mixing=mixing,
    )
    data, problems = SourceFinder(Roots((folder,)), ()).find(data, pretrain=False)
    assert problems == []
    resolved = resolve(TrainingSpec(data=data), DeviceKind.CPU, None).data
    spec = resolved_spec(smol_nano, changes="schedule { max_steps: 6 }")
    spec.data.CopyFrom(to_proto(resolved, training_pb2.Data))
    run = tmp_path / "run"
    message = bootstrap(run, spec, run, attempt=0)
    message.prepared_root = str(tmp_path / "prepared")
    result = prepared(message)
    assert [(Path(each.path).name, each.rows_used) for each in result.data.sources] == [
        ("1.jsonl", 4),
        ("2.jsonl.gz", 4),
        ("a.arrow", 8),
    ]
    assert [(each.name, each.rows) for each in result.data.evaluation_sets] == [("asked", 2)]
    assert result.data.train.rows == (6 + 12 if mixing is Mixing.CONCAT else result.data.train.rows)
    message = bootstrap(run, spec, Path(result.prepared_directory))
    train(message)
    assert losses(run)[-1] < losses(run)[0]
