"""The published data sets beside the repository: each becomes a source for the stage it is made for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.ftctl.importing.conftest import look

from ftctl.importing.llamafactory import LLAMAFACTORY
from ftctl.importing.place import Place
from ftctl.importing.report import Kind
from ftctl.importing.rules import run

SETS = Path(__file__).parents[5] / "shared" / "data"

pytestmark = pytest.mark.skipif(not SETS.is_dir(), reason="needs ../shared/data beside the repository")


@pytest.mark.parametrize(
    ("name", "stage", "format"),
    [
        ("alpaca_en_selfinstruct_seeds", "sft", "alpaca"),
        ("alpaca_zh_glaive", "sft", "alpaca"),
        ("sharegpt_fastchat_dummy_en", "sft", "sharegpt"),
        ("glaive_toolcall_en_demo", "sft", "sharegpt"),
        ("openai_messages_en", "sft", "messages"),
        ("dpo_en_demo", "dpo", "preference"),
        ("dpo_alpaca_pairs_en", "dpo", "preference"),
        ("dpo_en_demo", "rm", "preference"),
        ("kto_en_demo", "kto", "kto"),
        ("pt_c4_demo_100", "pt", "text"),
        ("pt_tinyshakespeare", "pt", None),
    ],
)
def test_a_set_becomes_a_source(name: str, stage: str, format: str | None) -> None:  # noqa: A002
    keys = {"model_name_or_path": "a/b", "stage": stage, "do_train": True, "dataset": name, "dataset_dir": "."}
    found = run(LLAMAFACTORY, keys, Place(SETS, SETS, look))
    assert found.of(Kind.REFUSED) == []
    assert found.spec["data"]["train"][0].get("format") == format


def test_placeholders_in_rows_are_told_of() -> None:
    keys = {"model_name_or_path": "a/b", "do_train": True, "dataset": "identity", "dataset_dir": "."}
    found = run(LLAMAFACTORY, keys, Place(SETS, SETS, look))
    assert found.faithful
    assert any("{{name}}" in entry.text for entry in found.entries)


def test_labels_of_answers_are_for_kto() -> None:
    keys = {"model_name_or_path": "a/b", "do_train": True, "dataset": "kto_en_demo", "dataset_dir": "."}
    assert any("labels" in entry.text for entry in run(LLAMAFACTORY, keys, Place(SETS, SETS, look)).of(Kind.REFUSED))
