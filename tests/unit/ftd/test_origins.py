"""What a training takes from other jobs: which fields name one, what fits there, and what is filled in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from tests.support.jobs import fake_job

from ftd.admission import joined
from ftd.draft import new_id
from ftd.job import Job
from ftd.methods import Freeze, Full, Lora, PromptTuning, Qlora
from ftd.origins import (
    FITS,
    Kind,
    Origin,
    jobs_in,
    misfit,
    output_kind,
    shaped_as,
    strange_bases,
    strange_checkpoint,
    take,
)
from ftd.records import JobState
from ftd.spec import Dependency, DependencyCondition, Model, Optimizer, Output, TrainingSpec
from ftd.stages import Dpo, Reward, Sft
from ftd.weights import Resume, Weights

BASE = Model(path="/models/base")
SHAPE = Lora(rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj",), rslora=False, dora=False)


def ended(folder: Path, state: JobState = JobState.SUCCEEDED, **training: Any) -> Job:
    """A job whose training had these parts; by default LoRA on the base."""
    job_id = new_id()
    resolved = replace(TrainingSpec(model=BASE, stage=Sft(), method=SHAPE), **training)
    return fake_job(folder, {}, id=job_id, resolved=resolved, state=state, output_path=f"/runs/{job_id}/output")


def named(record: type, seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """The names of all fields of weights below a record, however deep."""
    for each in fields(record):
        hint = get_type_hints(record)[each.name]
        for kind in (hint, *get_args(hint)):
            if kind is Weights:
                yield each.name
            elif isinstance(kind, type) and is_dataclass(kind) and kind not in seen:
                yield from named(kind, seen | {kind})


def test_every_field_of_weights_says_what_fits_it() -> None:
    assert {*named(TrainingSpec), "from_job"} == set(FITS)


def test_each_field_that_names_a_job_is_found_by_its_path() -> None:
    training = TrainingSpec(
        model=Model(from_job="a", adapters=(Weights(path="/x"), Weights(from_job="b"))),
        stage=Dpo(reference=Weights(from_job="c")),
        method=Qlora(lora=Lora(continue_from=Weights(from_job="d"))),
        resume=Resume(from_job="e"),
    )
    assert dict(jobs_in(training)) == {
        "model.from_job": "a",
        "model.adapters[1].from_job": "b",
        "dpo.reference.from_job": "c",
        "qlora.lora.continue_from.from_job": "d",
        "resume.from_job": "e",
    }


def test_a_model_is_taken_as_it_is_and_an_adapter_is_merged_first(tmp_path: Path) -> None:
    whole, adapter = ended(tmp_path, method=Full()), ended(tmp_path)
    own = Weights(path="/adapters/own")
    training = TrainingSpec(model=Model(from_job="x", adapters=(own,)))
    taken = take(training, {"model.from_job": Origin(whole)})
    assert taken.model == Model(path=whole.output_path, from_job=whole.id, adapters=(own,))
    taken = take(training, {"model.from_job": Origin(adapter)})
    merged = Weights(path=adapter.output_path, from_job=adapter.id)
    assert taken.model == Model(path="/models/base", from_job=adapter.id, adapters=(merged, own))


def test_the_model_of_an_adapter_that_is_gone_on_with_need_not_be_given(tmp_path: Path) -> None:
    adapter = ended(tmp_path)
    continued = Lora(continue_from=Weights(from_job="x"))
    origins = {"lora.continue_from.from_job": Origin(adapter)}
    taken = take(TrainingSpec(method=continued), origins)
    assert taken.model.path == "/models/base"
    assert taken.method == Lora(continue_from=Weights(path=adapter.output_path, from_job=adapter.id))
    other = take(TrainingSpec(model=Model(path="/models/other"), method=continued), origins)
    [(field, text)] = strange_bases(other, origins)
    assert field == "lora.continue_from.from_job"
    assert text.endswith(
        "belongs on /models/base, and the model is /models/other; accepted is an adapter of the same model"
    )


def test_an_adapter_that_stands_for_a_model_brings_its_base(tmp_path: Path) -> None:
    adapter, whole = ended(tmp_path), ended(tmp_path, method=Freeze(2))
    training = TrainingSpec(stage=Dpo(reference=Weights(from_job="x")))
    taken = take(training, {"dpo.reference.from_job": Origin(adapter)})
    assert taken.stage == Dpo(reference=Weights(adapter.output_path, adapter.id, "/models/base"))
    taken = take(training, {"dpo.reference.from_job": Origin(whole)})
    assert taken.stage == Dpo(reference=Weights(whole.output_path, whole.id))


MISFITS = [
    ("model.from_job", {"stage": Reward()}, {}, "whose output is a reward model; accepted is a model or an adapter"),
    ("model.from_job", {}, {"method": Qlora()}, "accepted with qlora is a model"),
    ("model.adapters[0].from_job", {"method": Full()}, {}, "whose output is a model; accepted is an adapter"),
    ("lora.continue_from.from_job", {}, {"stage": Reward()}, "whose output is an adapter; accepted is a reward model"),
    ("model.from_job", {"method": PromptTuning()}, {}, "is of prompt_tuning, which cannot be merged into a model"),
    (
        "lora.continue_from.from_job",
        {"output": Output(merge=True)},
        {},
        "whose output is a model; accepted is an adapt",
    ),
    ("dpo.reference.from_job", {"model": Model(hub_id="a/b")}, {}, "whose base model is on a hub"),
    ("model.from_job", {"state": JobState.FAILED}, {}, "which has failed and left no output; retry that one first"),
    ("model.from_job", {"state": JobState.CANCELLED}, {}, "which has been cancelled and left no output"),
    ("resume.from_job", {"state": JobState.RUNNING}, {}, "which is running; accepted is a job that has ended"),
]


@pytest.mark.parametrize(("field", "theirs", "ours", "text"), MISFITS)
def test_what_does_not_fit_is_told(
    tmp_path: Path, field: str, theirs: dict[str, Any], ours: dict[str, Any], text: str
) -> None:
    job = ended(tmp_path, **theirs)
    found = misfit(TrainingSpec(**ours), field, Origin(job))
    assert found.startswith(f"is job {job.id}, ")
    assert text in found


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.RUNNING, JobState.PREPARING])
def test_a_job_that_may_still_succeed_can_be_taken_from(tmp_path: Path, state: JobState) -> None:
    assert misfit(TrainingSpec(), "model.from_job", Origin(ended(tmp_path, state))) == ""
    failed = ended(tmp_path, JobState.FAILED)
    assert misfit(TrainingSpec(), "resume.from_job", Origin(failed)) == ""


def test_kinds_of_outputs() -> None:
    assert output_kind(TrainingSpec(stage=Reward(), method=Lora())) is Kind.REWARD_MODEL
    assert output_kind(TrainingSpec(stage=Sft(), method=Qlora())) is Kind.ADAPTER
    assert output_kind(TrainingSpec(stage=Sft(), method=Freeze())) is Kind.MODEL
    assert output_kind(TrainingSpec(stage=Sft(), method=Lora(), output=Output(merge=True))) is Kind.MODEL


def test_an_adapter_keeps_its_shape_and_the_spec_may_only_repeat_it() -> None:
    asked = Lora(rank=4, dropout=0.1, continue_from=Weights(path="/a"))
    shaped, problems = shaped_as(asked, SHAPE)
    assert problems == []
    assert shaped == replace(SHAPE, dropout=0.1, continue_from=Weights(path="/a"))
    _, problems = shaped_as(Lora(rank=8, target_modules=("all-linear",)), SHAPE)
    assert problems == [
        ("rank", "is 8, and the adapter of continue_from has 4"),
        ("target_modules", "is all-linear, and the adapter of continue_from has q_proj"),
    ]


def test_a_checkpoint_is_of_the_same_training() -> None:
    theirs = TrainingSpec(model=BASE, stage=Sft(), method=SHAPE, optimizer=Optimizer(name="adamw_torch"))
    assert list(strange_checkpoint(replace(theirs, optimizer=Optimizer("adamw_torch", 1e-3)), theirs)) == []
    ours = TrainingSpec(
        model=Model(path="/m"), stage=Dpo(), method=replace(SHAPE, rank=8), optimizer=Optimizer(name="sgd")
    )
    assert dict(strange_checkpoint(ours, theirs)) == {
        "model": "is /m, and the checkpoint is of /models/base",
        "dpo": "is the stage, and the checkpoint is of sft",
        "lora.rank": "is 8, and the checkpoint has 4",
        "optimizer.name": "is sgd, and the checkpoint is of adamw_torch",
    }


def test_what_is_taken_must_have_succeeded_whatever_was_asked() -> None:
    asked = (Dependency("a", DependencyCondition.ANY), Dependency("b", DependencyCondition.ANY))
    taken = (Dependency("a", DependencyCondition.OK), Dependency("b", DependencyCondition.ANY))
    assert joined(asked, taken) == (
        Dependency("b", DependencyCondition.ANY),
        Dependency("a", DependencyCondition.OK),
    )
