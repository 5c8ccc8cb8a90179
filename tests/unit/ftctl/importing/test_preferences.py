"""Preferences and reward models: which stage a tool's names become, and where their numbers go."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ftctl.importing.conftest import EXAMPLES, place

from ftctl.importing.axolotl import AXOLOTL
from ftctl.importing.llamafactory import LLAMAFACTORY
from ftctl.importing.report import Entry, Kind, Report
from ftctl.importing.rules import Tool, run
from ftctl.importing.swift import SWIFT

FILE = str(EXAMPLES / "data" / "pairs.json")
DATA: dict[str, dict[str, Any]] = {
    "llamafactory": {"dataset": "pairs", "dataset_dir": "data", "do_train": True},
    "swift": {"dataset": FILE},
    "axolotl": {"dataset": [{"path": FILE}]},
}


def read(tool: Tool, **keys: Any) -> Report:
    return run(tool, {"model_name_or_path": "owner/name", **DATA[tool.name], **keys}, place())


def entry(found: Report, key: str) -> Entry:
    return next(each for each in found.entries if each.key == key)


@pytest.mark.parametrize(
    ("tool", "keys", "stage"),
    [
        (LLAMAFACTORY, {"stage": "rm"}, {"reward": {}}),
        (LLAMAFACTORY, {"stage": "dpo", "pref_loss": "ipo"}, {"dpo": {"loss": "ipo"}}),
        (LLAMAFACTORY, {"stage": "dpo", "pref_loss": "orpo", "pref_beta": 0.3}, {"orpo": {"beta": 0.3}}),
        (LLAMAFACTORY, {"stage": "dpo", "pref_loss": "simpo"}, {"cpo": {"loss": "simpo"}}),
        (
            LLAMAFACTORY,
            {"stage": "dpo", "pref_loss": "simpo", "simpo_gamma": 0.9, "pref_ftx": 0.1},
            {"cpo": {"loss": "simpo", "gamma": 0.9, "nll_weight": 0.1}},
        ),
        (
            LLAMAFACTORY,
            {"stage": "dpo", "pref_ftx": "1e-1"},
            {"dpo": {"losses": [{"loss": "sigmoid"}, {"loss": "sft", "weight": 0.1}]}},
        ),
        (SWIFT, {"rlhf_type": "rm", "center_rewards_coefficient": 0.01}, {"reward": {"center_coefficient": 0.01}}),
        (SWIFT, {"rlhf_type": "orpo", "beta": 0.2}, {"orpo": {"beta": 0.2}}),
        (SWIFT, {"rlhf_type": "cpo"}, {"cpo": {}}),
        (SWIFT, {"rlhf_type": "simpo"}, {"cpo": {"loss": "simpo", "beta": 2.0, "nll_weight": 1.0, "gamma": 1.0}}),
        (
            SWIFT,
            {"rlhf_type": "dpo", "loss_type": "hinge", "rpo_alpha": 1},
            {"dpo": {"losses": [{"loss": "hinge"}, {"loss": "sft", "weight": 1.0}]}},
        ),
        (AXOLOTL, {"rl": "orpo", "orpo_alpha": 0.2}, {"orpo": {"beta": 0.2}}),
        (AXOLOTL, {"rl": "simpo", "simpo_gamma": 0.7}, {"cpo": {"loss": "simpo", "gamma": 0.7, "nll_weight": 1.0}}),
        (AXOLOTL, {"rl": "ipo"}, {"dpo": {"loss": "ipo"}}),
    ],
)
def test_a_stage_by_its_name_here(tool: Tool, keys: dict[str, Any], stage: dict[str, Any]) -> None:
    spec = read(tool, **keys).spec
    assert {name: spec[name] for name in ("reward", "dpo", "kto", "orpo", "cpo") if name in spec} == stage


def test_ppo_scores_with_a_model_and_draws_as_llamafactory_does() -> None:
    found = read(LLAMAFACTORY, stage="ppo", dataset="answers", reward_model="rm", max_new_tokens=128, ppo_epochs=2)
    assert found.faithful, found.of(Kind.REFUSED)
    assert found.spec["ppo"] == {
        "rewards": [{"reward_model": {"weights": {"path": "rm"}}}],
        "iterations": 2,
        "sampling": {"max_completion_length": 128, "temperature": 0.95, "top_p": 0.7, "top_k": 50},
    }
    assert entry(found, "ppo_target").kind is Kind.DEFAULTED


def test_grpo_scores_with_functions_and_a_model() -> None:
    found = read(SWIFT, rlhf_type="grpo", reward_funcs="format", reward_model="rm", num_generations=4)
    assert found.faithful, found.of(Kind.REFUSED)
    assert found.spec["grpo"] == {
        "rewards": [{"tag_format": {}}, {"reward_model": {"weights": {"path": "rm"}}}],
        "generations": 4,
        "beta": 0.04,
        "sampling": {"max_completion_length": 512},
    }


@pytest.mark.parametrize(
    ("tool", "keys", "blamed"),
    [
        (LLAMAFACTORY, {"stage": "ppo", "reward_model": "http://x", "reward_model_type": "api"}, "reward_model"),
        (LLAMAFACTORY, {"stage": "ppo", "reward_model": "rm", "ppo_score_norm": True}, "ppo_score_norm"),
        (LLAMAFACTORY, {"stage": "ppo"}, "reward_model"),
        (SWIFT, {"rlhf_type": "grpo", "reward_funcs": "cosine"}, "reward_funcs"),
    ],
)
def test_what_answers_are_worth_cannot_be_said(tool: Tool, keys: dict[str, Any], blamed: str) -> None:
    data = {"dataset": "answers"} if tool is LLAMAFACTORY else {}
    assert blamed in [each.key for each in read(tool, **keys, **data).of(Kind.REFUSED)]


@pytest.mark.parametrize(
    ("keys", "micro", "whole"),
    [
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}, 2, 8),
        ({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}, 4, 4),
    ],
)
def test_kto_needs_two_answers_and_keeps_the_update(keys: dict[str, Any], micro: int, whole: int) -> None:
    found = read(LLAMAFACTORY, stage="kto", **{**keys, "dataset": "labels"})
    assert found.faithful
    assert found.spec["batch"] == {"micro_batch": micro, "global_batch": whole}


def test_kto_with_one_answer_an_update_is_refused() -> None:
    found = read(LLAMAFACTORY, stage="kto", dataset="labels", per_device_train_batch_size=1)
    assert "even" in entry(found, "gradient_accumulation_steps").instead


@pytest.mark.parametrize(
    ("keys", "blamed"),
    [
        ({"stage": "kto", "dataset": "labels", "pref_ftx": 0.1}, "pref_ftx"),
        ({"stage": "kto", "dataset": "answers"}, "dataset_info.answers.columns"),
        ({"stage": "rm", "dataset": "answers"}, "dataset_info.answers"),
        ({"stage": "dpo", "pref_loss": "kto_pair"}, "pref_loss"),
        ({"stage": "dpo", "pref_loss": "simpo", "dataset": "labels"}, "dataset_info.labels"),
    ],
)
def test_what_cannot_be_said_is_refused(keys: dict[str, Any], blamed: str) -> None:
    assert blamed in [each.key for each in read(LLAMAFACTORY, **keys).of(Kind.REFUSED)]
