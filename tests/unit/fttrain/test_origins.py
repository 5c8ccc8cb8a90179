"""Where weights come from: the order of adapters, the tokenizer that is taken, and what is told of it all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetuned.v1 import training_pb2, weights_pb2
from fttrain import manifest, origins

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def adapter(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(content)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def spec(base: Path, *adapters: Path, continued: Path | None = None) -> training_pb2.TrainingSpec:
    made = training_pb2.TrainingSpec()
    made.model.path = str(base)
    for folder in adapters:
        made.model.adapters.add(path=str(folder))
    made.lora.rank = 8
    if continued:
        made.lora.continue_from.path = str(continued)
    return made


def test_what_an_adapter_stands_on_goes_first_and_each_only_once(base: Path, tmp_path: Path) -> None:
    first = adapter(tmp_path / "first", "1")
    top = adapter(tmp_path / "top", "top")
    # In the order of numbers, not of texts.
    for number in range(1, 11):
        adapter(top / "base_adapters" / str(number), str(number))
    names = [folder.name for folder in origins.merged(spec(base, top))]
    assert names == [*map(str, range(1, 11)), "top"]
    assert [folder.name for folder in origins.merged(spec(base, first, top))] == ["first", *names[1:]]
    assert [folder.name for folder in origins.merged(spec(base, first, continued=top))] == ["first", *names[1:-1]]
    assert origins.merged(spec(base, continued=first)) == []
    # Who is trained on is not merged below itself.
    assert origins.merged(spec(base, first, continued=first)) == []


def test_an_output_carries_what_was_merged(base: Path, tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "a", "1"), adapter(tmp_path / "b", "2")
    output = adapter(tmp_path / "output", "3")
    origins.carry(spec(base, first, second), output)
    assert [(folder / "adapter_model.safetensors").read_text() for folder in origins.chain(output)] == ["1", "2", "3"]


def test_the_tokenizer_is_that_of_what_was_trained_last(base: Path, tmp_path: Path) -> None:
    with_one, without = adapter(tmp_path / "a", "1"), adapter(tmp_path / "b", "2")
    assert origins.tokenizer_folder(spec(base, with_one, without)) == base
    (with_one / "tokenizer_config.json").write_text("{}")
    assert origins.tokenizer_folder(spec(base, with_one, without)) == with_one
    assert origins.tokenizer_folder(spec(base, continued=with_one)) == with_one
    assert origins.tokenizer_folder(training_pb2.TrainingSpec()) is None


def test_the_lineage_goes_back_to_the_base(base: Path, tmp_path: Path) -> None:
    notes = tmp_path / "digests"
    first = adapter(tmp_path / "runs" / "jfirst" / "output", "1")
    found = origins.lineage(spec(base), "d" * 64, notes)
    origins.write(found, first)
    manifest.write(first, "jfirst", 40, "s")
    second = adapter(tmp_path / "runs" / "jsecond" / "output", "2")
    origins.write(origins.lineage(spec(base, continued=first), "e" * 64, notes), second)
    manifest.write(second, "jsecond", 7, "s")

    found = origins.lineage(spec(base, second), "f" * 64, notes)
    told = [(each.field, each.job, each.step) for each in found.ancestors]
    assert told == [("model.adapters[0]", "jsecond", 7), ("model.adapters[0]/lora.continue_from", "jfirst", 40)]
    assert (found.base_model, found.data_digest) == (str(base), "f" * 64)
    portable = origins.portable(found)
    assert (portable.base_model, [each.path for each in portable.ancestors]) == ("base", ["jsecond", "jfirst"])

    # A whole model that a job left began with what that one began with.
    (second / "config.json").write_text("{}")
    grown = origins.lineage(spec(second), "f" * 64, notes)
    assert (grown.base_model, grown.base_digest) == ("base", found.base_digest)
    assert [each.field for each in grown.ancestors] == ["model", "model/lora.continue_from"]


def test_a_digest_is_of_the_content_and_read_once(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "digests"
    before = origins.lineage(spec(base), "", notes).base_digest
    read: list[str] = []
    sha256 = origins._sha256
    monkeypatch.setattr(origins, "_sha256", lambda file: read.append(file.name) or sha256(file))
    assert origins.lineage(spec(base), "", notes).base_digest == before
    assert read == []
    (base / "model.safetensors").write_bytes(b"weighty")
    assert origins.lineage(spec(base), "", notes).base_digest != before
    assert read == ["model.safetensors"]
    [note] = notes.iterdir()
    note.write_text("damaged")
    assert origins.lineage(spec(base), "", notes).base_digest != before


def test_the_commit_is_read_where_the_hubs_tools_note_it(base: Path, tmp_path: Path) -> None:
    assert origins.lineage(spec(base), "", tmp_path / "n").base_revision == ""
    note = base / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{COMMIT}\netag\n1.0\n")
    assert origins.lineage(spec(base), "", tmp_path / "n").base_revision == COMMIT
    snapshot = tmp_path / "models--a--b" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert origins.lineage(spec(snapshot), "", tmp_path / "n").base_revision == COMMIT


def test_a_lineage_beside_an_output_names_no_path(tmp_path: Path) -> None:
    found = weights_pb2.Lineage(base_model="/models/base", base_revision="r")
    found.ancestors.add(field="resume", path="/runs/jabc/checkpoints/checkpoint-4", job="jabc", step=4)
    origins.write(found, tmp_path)
    told = json.loads((tmp_path / "lineage.json").read_text())
    assert told["baseModel"] == "base"
    assert told["ancestors"][0]["path"] == "checkpoint-4"
