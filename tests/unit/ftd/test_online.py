"""The stages that write their own answers: mistakes as a user reads them, defaults, memory, and whose code may run."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.ftd.test_intake import CONFIG, CPU, Host
from tests.unit.ftd.test_validate import problems, spec

from ftd import memory
from ftd.beside import parameters_beside
from ftd.datasets import Data, DataSource, LongRows
from ftd.errors import InvalidSpec
from ftd.intake import Intake
from ftd.models import HostPolicy, ModelInfo
from ftd.online import (
    Distill,
    Grpo,
    GrpoLoss,
    JsonValid,
    LengthBand,
    Ppo,
    RewardFunction,
    RewardModel,
    RewardScale,
    Rloo,
    Sampling,
    TagFormat,
    UserFunction,
)
from ftd.resolve import resolve
from ftd.spec import Batch, DeviceKind, Model, TrainingSpec
from ftd.weights import Weights

JSON: dict[str, Any] = {"jsonValid": {}}
VALID = (RewardFunction(kind=JsonValid()),)


def online(**stage: Any) -> dict[str, Any]:
    """Changes that make a spec of grpo with these fields."""
    return {"training__grpo": {"rewards": [JSON]} | stage}


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        (online(rewards=[]), "grpo.rewards", "is empty; accepted is at least one of exact_answer, regex_match, "),
        (online(rewards=[{"weight": 1}]), "grpo.rewards[0]", "has no kind; accepted is exact_answer, regex_match, "),
        (online(rewards=[JSON, JSON]), "grpo.rewards[1].name", "is json_valid again; accepted is each name once"),
        (
            online(rewards=[JSON | {"weight": 0}]),
            "grpo.rewards[0].weight",
            "is 0.0; accepted is a number ",
        ),
        (
            online(rewards=[{"regexMatch": {}}]),
            "grpo.rewards[0].regex_match.pattern",
            "is missing; accepted is a regular expression",
        ),
        (
            online(rewards=[{"regexMatch": {"pattern": "(a"}}]),
            "grpo.rewards[0].regex_match.pattern",
            "is '(a', which is no regular expression: missing ), unterminated subpattern",
        ),
        (
            online(rewards=[{"exactAnswer": {"pattern": "x" * 1001}}]),
            "grpo.rewards[0].exact_answer.pattern",
            "accepted is 1 to 1000 characters",
        ),
        (
            online(rewards=[{"lengthBand": {"minTokens": 9, "maxTokens": 3}}]),
            "grpo.rewards[0].length_band.min_tokens",
            "is 9, over max_tokens 3; accepted is at most that",
        ),
        (
            online(rewards=[{"tagFormat": {"tags": ["a b"]}}]),
            "grpo.rewards[0].tag_format.tags",
            "is ['a b']; accepted is different names of letters, digits and '_'",
        ),
        (
            online(rewards=[{"rewardModel": {}}]),
            "grpo.rewards[0].reward_model.weights",
            "is missing; accepted is weights.path or weights.from_job, the output of a reward job",
        ),
        (
            online(rewards=[{"userFunction": {"path": "mine.py"}}]),
            "grpo.rewards[0].user_function.path",
            "is 'mine.py'; accepted is an absolute path",
        ),
        (online(generations=1), "grpo.generations", "is 1; accepted is at least 2"),
        (
            online(generations=6) | {"training__batch": {"globalBatch": 8}},
            "batch.global_batch",
            "is 8, but each prompt has 6 answers (grpo.generations); accepted is a multiple of that",
        ),
        (
            online(sampling={"maxCompletionLength": 64}) | {"training__data__maxLength": 64},
            "grpo.sampling.max_completion_length",
            "is 64, but data.max_length, which bounds prompt and answer, is 64; accepted is less",
        ),
        (online(sampling={"temperature": 0}), "grpo.sampling.temperature", "is 0.0; accepted is a number over 0"),
        (
            online() | {"training__data__longRows": "LONG_ROWS_TRUNCATE"},
            "data.long_rows",
            "is truncate, but a prompt that is cut is another one; accepted with grpo: drop, refuse",
        ),
        (
            online() | {"training__compute": {"paddingFree": True}},
            "compute.padding_free",
            "is on, but grpo writes answers in padded batches; leave it out",
        ),
        (
            {"training__ppo": {"rewards": [JSON]}, "training__resources": {"gpus": 2}},
            "resources.gpus",
            "is 2, but ppo runs on one; leave it out",
        ),
        ({"training__distill": {}}, "distill.teacher", "is missing; accepted is distill.teacher.path or "),
        ({"training__distill": {"teacher": {"path": "/m"}, "beta": 2}}, "distill.beta", "is 2.0; accepted is 0 to 1"),
    ],
)
def test_a_mistake_is_named_with_what_would_be_accepted(changes: dict[str, Any], field: str, expected: str) -> None:
    found = problems(spec(**changes))
    assert found.keys() == {f"training.{field}"}
    assert expected in found[f"training.{field}"]


def resolved(**changes: Any) -> TrainingSpec:
    given = TrainingSpec(model=Model(path="/m"), data=Data(train=(DataSource("/d/a.jsonl"),)))
    info = ModelInfo({"num_hidden_layers": 4, "max_position_embeddings": 8192}, has_chat_template=True)
    return resolve(replace(given, **changes), DeviceKind.CPU, info)


def test_every_default_of_grpo() -> None:
    rewards = (
        RewardFunction(kind=LengthBand()),
        RewardFunction("tags", 0.5, TagFormat()),
        RewardFunction(kind=UserFunction("/code/mine.py")),
    )
    found = resolved(stage=Grpo(rewards=rewards))
    assert found.stage == Grpo(
        rewards=(
            RewardFunction("length_band", 1.0, LengthBand(0, 256)),
            RewardFunction("tags", 0.5, TagFormat(("think", "answer"))),
            RewardFunction("user_function", 1.0, UserFunction("/code/mine.py", "rewards")),
        ),
        sampling=Sampling(256, 1.0, 1.0, 0, 1.0),
        generations=8,
        beta=0.0,
        epsilon=0.2,
        epsilon_high=0.2,
        iterations=1,
        loss=GrpoLoss.DAPO,
        scale_rewards=RewardScale.GROUP,
        mask_truncated=False,
    )
    assert found.data.long_rows is LongRows.DROP
    assert found.compute.padding_free is False
    assert found.optimizer.learning_rate == pytest.approx(1e-5)


def test_defaults_of_the_others() -> None:
    assert resolved(stage=Rloo(rewards=VALID)).stage == Rloo(
        rewards=(RewardFunction("json_valid", 1.0, JsonValid()),),
        sampling=Sampling(256, 1.0, 1.0, 0, 1.0),
        generations=8,
        beta=0.05,
        epsilon=0.2,
        epsilon_high=0.2,
        iterations=1,
        mask_truncated=False,
        normalize_advantages=False,
    )
    ppo = resolved(stage=Ppo(rewards=VALID, gae_lambda=0.0)).stage
    assert isinstance(ppo, Ppo)
    assert (ppo.beta, ppo.epsilon, ppo.value_epsilon, ppo.value_weight) == (0.05, 0.2, 0.2, 0.1)
    assert (ppo.gamma, ppo.gae_lambda, ppo.iterations) == (1.0, 0.0, 4)
    distill = resolved(stage=Distill(teacher=Weights("/t")), data=Data(max_length=64)).stage
    assert distill == Distill(Weights("/t"), Sampling(32, 1.0, 1.0, 0, 1.0), 1.0)


@pytest.mark.parametrize(("generations", "expected"), [(None, 8), (2, 8), (6, 24)])
def test_an_update_has_all_answers_to_its_prompts(generations: int | None, expected: int) -> None:
    assert resolved(stage=Grpo(rewards=VALID, generations=generations)).batch == Batch(1, expected)


def test_the_best_evaluation_is_the_one_with_the_most_reward() -> None:
    data = Data(train=(DataSource("/d/a.jsonl"),), eval_split=0.1)
    found = resolved(stage=Grpo(rewards=VALID), data=data).evaluation
    assert (found.metric, found.higher_is_better) == ("reward", True)
    assert resolved(stage=Distill(teacher=Weights("/t")), data=data).evaluation.metric == "loss"


def test_memory_is_of_answers_that_are_written_and_of_the_models_beside() -> None:
    plain, grpo = resolved(), resolved(stage=Grpo(rewards=VALID), batch=Batch(1, 64))
    work = memory.workload_of(grpo, 512, beside=1000)
    assert (work.stage, work.generated_rows, work.completion) == ("grpo", 64, 256)
    assert (work.other_models_bytes, work.reference, work.value_head) == (4000, False, False)
    assert memory.workload_of(resolved(stage=Ppo(rewards=VALID)), 512).value_head
    peaks = [memory.estimate(each, CONFIG, 512).peak_bytes for each in (plain, grpo)]
    assert peaks[1] > peaks[0]
    estimated = memory.estimate(grpo, CONFIG, 512, beside=10_000)
    assert {term.name: term.bytes for term in estimated.terms}["other models"] == 40_000


def test_models_beside_are_counted_by_the_headers_of_their_files(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}, "a": {"shape": [3, 4]}, "b": {"shape": [5]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    scored = RewardFunction(kind=RewardModel(Weights("/adapter", base_path=str(tmp_path))))
    assert parameters_beside(resolved(stage=Grpo(rewards=(scored,)))) == 17
    assert parameters_beside(resolved(stage=Distill(teacher=Weights(str(tmp_path))))) == 17
    assert parameters_beside(resolved(stage=Distill(teacher=Weights(str(tmp_path / "later"))))) == 0


def test_code_of_users_runs_only_from_folders_that_the_host_allows(tmp_path: Path) -> None:
    host = Host(tmp_path)
    (tmp_path / "code").mkdir()
    inside, outside = tmp_path / "code" / "mine.py", tmp_path / "mine.py"
    for path in (inside, outside):
        path.write_text("def rewards(prompts, completions, answers): return [0] * len(prompts)")

    def refusals(path: Path, *roots: Path) -> dict[str, str]:
        stage = Grpo(rewards=(RewardFunction(kind=UserFunction(str(path))),))
        try:
            Intake(host.roots, HostPolicy(code_roots=roots)).accept(host.spec(stage=stage), (CPU,))
        except InvalidSpec as refused:
            return {each.field: each.description for each in refused.violations}
        return {}

    field = "training.grpo.rewards[0].user_function.path"
    assert refusals(inside) == {field: "is given, but this host runs no code of users; leave it out, or ask its owner"}
    assert refusals(outside, tmp_path / "code")[field].startswith("is outside the folders this host allows here")
    assert refusals(tmp_path / "code" / "none.py", tmp_path / "code")[field].startswith("is ")
    assert refusals(inside, tmp_path / "code") == {}
