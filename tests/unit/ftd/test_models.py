"""What a user reads about a model folder that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftd.models import HostPolicy, ModelInfo, read_model
from ftd.paths import Roots

CONFIG = {"model_type": "llama", "num_hidden_layers": 4, "max_position_embeddings": 256}
STRICT = HostPolicy()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "nano"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def problems(folder: Path, policy: HostPolicy = STRICT) -> list[str]:
    return read_model(str(folder), Roots((folder.parent,)), policy)[1]


def info(folder: Path) -> ModelInfo:
    found, wrong = read_model(str(folder), Roots((folder.parent,)), STRICT)
    assert wrong == []
    assert found is not None
    return found


def test_a_complete_folder_is_good(model: Path) -> None:
    assert info(model) == ModelInfo(CONFIG, has_chat_template=False)
    assert info(model).layers == 4
    assert info(model).max_length == 256


@pytest.mark.parametrize(
    ("config", "layers", "max_length"),
    [
        ({"model_type": "gpt2", "n_layer": 12, "n_positions": 1024}, 12, 1024),
        ({"model_type": "gemma3", "text_config": {"num_hidden_layers": 26}}, 26, None),
        ({"model_type": "odd", "num_hidden_layers": "4", "text_config": [1]}, None, None),
    ],
)
def test_numbers_are_found_where_families_keep_them(
    model: Path, config: object, layers: int | None, max_length: int | None
) -> None:
    (model / "config.json").write_text(json.dumps(config))
    assert (info(model).layers, info(model).max_length) == (layers, max_length)


def test_a_template_is_found_in_both_places(model: Path) -> None:
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert info(model).has_chat_template
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": None}))
    assert not info(model).has_chat_template
    (model / "chat_template.jinja").write_text("{{ messages }}")
    assert info(model).has_chat_template


def test_a_missing_folder(model: Path) -> None:
    missing = model.parent / "other"
    text = f"is {missing}, which does not exist on the daemon's host; accepted is an existing folder"
    assert problems(missing) == [text]


def test_a_file_in_its_place(model: Path) -> None:
    assert problems(model / "config.json") == ["is not a folder; accepted is a folder"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert problems(folder) == [
        "has no weights; accepted are *.safetensors files",
        "has no tokenizer; accepted is one of tokenizer.json, tokenizer.model, spiece.model, vocab.json, vocab.txt",
        "has no config.json; accepted is the folder of a transformers model: config.json, *.safetensors, tokenizer",
    ]


def test_an_adapter_is_not_a_model(model: Path) -> None:
    (model / "config.json").rename(model / "adapter_config.json")
    text = "is the folder of an adapter, which has no model in it; accepted is the folder of its base model"
    assert problems(model) == [text]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b'{\n  "model_type": llama}',
            "has a config.json that is not JSON: Expecting value at line 2, column 17; accepted is an object",
        ),
        (b"\xff\xfe{", "has a config.json that is not JSON; accepted is an object"),
        (b"[" * 200_000, "has a config.json that is not JSON; accepted is an object"),
        (b"[1]", "has a config.json that is not an object; accepted is an object"),
        (b"{}", "has a config.json without model_type; accepted is the folder of a transformers model"),
        (b" " * 1_048_577, "has a config.json that has more than 1048576 bytes; accepted is a smaller file"),
    ],
    ids=["syntax", "encoding", "depth", "list", "type", "size"],
)
def test_a_broken_config(model: Path, content: bytes, text: str) -> None:
    (model / "config.json").write_bytes(content)
    assert problems(model) == [text]


def test_a_broken_tokenizer_config_is_told_too(model: Path) -> None:
    (model / "tokenizer_config.json").write_text("{")
    assert problems(model)[0].startswith("has a tokenizer_config.json that is not JSON: Expecting property name")


def test_pickled_weights_are_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    text = "has its weights in pytorch_model.bin, which may run code when they are read; accepted are *.safetensors"
    assert problems(model) == [text]


def test_code_of_its_own_needs_the_hosts_permission(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({**CONFIG, "auto_map": {"AutoConfig": "mine.Config"}}))
    text = (
        "brings code of its own (auto_map in config.json), which this host does not run; "
        "accepted is a model that transformers knows"
    )
    assert problems(model) == [text]
    assert problems(model, HostPolicy(allow_remote_code=True)) == []


def test_missing_shards_are_named(model: Path) -> None:
    shards = {"a": "model-1-of-3.safetensors", "b": "model-2-of-3.safetensors", "c": "model-3-of-3.safetensors"}
    (model / "model.safetensors").rename(model / "model-1-of-3.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    text = "lacks 2 of its weight files, e.g. model-2-of-3.safetensors; accepted is a complete model"
    assert problems(model) == [text]


def test_links_out_of_the_roots_are_not_read(model: Path) -> None:
    outside = model.parent.parent / "config.json"
    (model / "config.json").rename(outside)
    (model / "config.json").symlink_to(outside)
    assert problems(model)[0].startswith("has a config.json that is outside the folders this host allows here")


def test_links_into_a_store_below_the_root_are_read(model: Path) -> None:
    blobs = model.parent / "blobs"
    blobs.mkdir()
    (model / "config.json").rename(blobs / "c0ffee")
    (model / "config.json").symlink_to("../blobs/c0ffee")
    assert info(model).config == CONFIG
