"""What the real trainings share: the carved model, its prepared rows by stage, a process that nobody asked to stop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import training
from tests.support.models import smol_nano

from fttrain.rank import stops
from fttrain.train import hide_trackers

__all__ = ["smol_nano"]

# Read when the libraries are imported, as in a rank.
os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")
hide_trackers()


@pytest.fixture(scope="session")
def rows(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of prepared rows by stage."""
    import torch
    from transformers import AutoTokenizer

    # As the Bootstrap says to a rank. Two threads on two busy cores would spin for each other.
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    folder = tmp_path_factory.mktemp("prepared")
    sft, text = training.sft_rows(tokenizer), training.text_rows(tokenizer)
    return {
        "sft": training.prepare(folder / "sft", sft, sft[:3]),
        "pretrain": training.prepare(folder / "pretrain", text),
        "dpo": training.prepare(folder / "pairs", training.preference_rows(tokenizer)),
        "orpo": folder / "pairs",
        "cpo": folder / "pairs",
        "texts": training.prepare(folder / "texts", _ended_with_the_turn(training.preference_rows(tokenizer))),
        "reward": training.prepare(folder / "reward", training.whole_rows(tokenizer)),
        "kto": training.prepare(folder / "kto", training.labelled_rows(tokenizer)),
        "prompts": training.prepare(
            folder / "prompts", training.prompt_rows(tokenizer), training.prompt_rows(tokenizer)[:3]
        ),
    }


def _ended_with_the_turn(pairs: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """Pairs without the line end that the template puts after a turn."""
    return [row | {name: row[name][:-1] for name in ("chosen_ids", "rejected_ids")} for row in pairs]


@pytest.fixture(autouse=True)
def _nobody_asked_to_stop(tmp_path: Path) -> Iterator[None]:
    stops.watch(tmp_path / "stop.json")
    yield
    stops.watch(tmp_path / "no-stop.json")
