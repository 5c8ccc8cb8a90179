"""Stages that train nothing: what they take of a spec, what is spelled out, what they need, and who may take theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.parts import opened_queue
from tests.unit.ftd.test_chains import Door
from tests.unit.ftd.test_intake import Host
from tests.unit.ftd.test_memory import LLAMA
from tests.unit.ftd.test_validate import problems, spec

from ftd import relief
from ftd.datasets import Data, DataSource, LongRows, Thinking
from ftd.inference import Chat, Evaluate, Export, Inference
from ftd.job import Job
from ftd.memory import estimate, fixes
from ftd.methods import Full, Lora, LoraInit, Qlora, QuantType
from ftd.models import ModelInfo
from ftd.moves import Ended, Placed, Prepared, Running
from ftd.records import DataReport, Failure, FailureClass, Outcome
from ftd.resolve import resolve
from ftd.spec import (
    Attention,
    Batch,
    Compute,
    DependencyCondition,
    DeviceKind,
    Dtype,
    Evaluation,
    Generation,
    GgufType,
    Model,
    Output,
    Resources,
    Sharing,
    TrainingSpec,
)
from ftd.weights import Weights
from fttrain import manifest

GPU, CPU = DeviceKind.GPU, DeviceKind.CPU
GIB = 2**30
MODEL = Model(path="/m")
ROWS = Data(eval=(DataSource("/d/a.jsonl"),))
BF16, FP16 = (ModelInfo(LLAMA | dtype, True) for dtype in ({"dtype": "bfloat16"}, {"torch_dtype": "float16"}))
SOURCE = {"eval": [{"path": "/d/a.jsonl"}]}


def used(stage: Inference, device: DeviceKind = GPU, model: ModelInfo | None = None, **more: Any) -> TrainingSpec:
    return resolve(TrainingSpec(model=MODEL, stage=stage, **more), device, model)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


def without_training(stage: str, **changes: Any) -> dict[str, str]:
    """The problems of a spec of this stage, by the field below the training."""
    made = spec(**{f"training__{stage}": {}, "training__data": {}} | changes)
    return {field.removeprefix("training."): text for field, text in problems(made).items()}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (
            "evaluate",
            {"training__data": SOURCE, "training__evaluation": {"microBatch": 2, "generation": {"maxRows": 3}}},
        ),
        ("evaluate", {"training__data": SOURCE | {"maxLength": 64, "template": "chatml", "strict": True}}),
        ("export", {"training__output": {"dtype": "DTYPE_BF16", "gguf": ["GGUF_TYPE_Q8_0"], "ollama": True}}),
        ("chat", {"training__compute": {"precision": "DTYPE_BF16"}}),
    ],
)
def test_what_a_stage_uses_is_accepted(stage: str, changes: dict[str, Any]) -> None:
    assert without_training(stage, **changes) == {}


@pytest.mark.parametrize("stage", ["evaluate", "export", "chat"])
def test_all_that_is_of_a_training_is_refused_at_once(stage: str) -> None:
    found = without_training(
        stage,
        training__data={"train": [{"path": "/d/a.jsonl"}], "packing": True, "evalSplit": 0.1},
        training__optimizer={"learningRate": 1e-4},
        training__schedule={"maxSteps": 5},
        training__batch={"globalBatch": 8},
        training__compute={"gradientCheckpointing": True},
        training__evaluation={"cadence": "CADENCE_EPOCH", "metric": "loss"},
        training__checkpoints={"keep": 2},
        training__output={"merge": True, "weights": "OUTPUT_WEIGHTS_LAST"},
        training__resume={"fromJob": "old"},
        training__resources={"gpus": 2},
        training__lora={},
    )
    assert found.keys() - {"data.eval"} == {
        "data.train",
        "data.packing",
        "data.eval_split",
        "optimizer.learning_rate",
        "schedule.max_steps",
        "batch.global_batch",
        "compute.gradient_checkpointing",
        "evaluation.cadence",
        "evaluation.metric",
        "checkpoints.keep",
        "output.merge",
        "output.weights",
        "resume",
        "resources.gpus",
        "lora",
    }
    assert found["lora"] == f"is given, but {stage} trains nothing; leave it out"
    assert found["resources.gpus"] == f"is 2, but {stage} runs on one device; accepted is 1"
    assert found["schedule.max_steps"] == f"is given, but {stage} does not use it; leave it out"


def test_a_mistake_is_named_with_what_would_be_accepted() -> None:
    assert without_training("evaluate") == {"data.eval": "is empty; accepted is at least one source with a path"}
    wrong = SOURCE | {"eval": [{"path": "/d/a.jsonl", "format": "FORMAT_PREFERENCE"}]}
    assert without_training("evaluate", training__data=wrong)["data.eval[0].format"].startswith(
        "is preference, whose rows evaluate cannot train on; accepted is alpaca"
    )
    assert without_training("export", training__output={"ollama": True})["output.ollama"].startswith("is on, but there")
    given = without_training("chat", training__data=SOURCE)
    assert given["data.eval"].startswith("is given, but chat does not use it; of data it uses max_length")
    assert without_training("export", training__model={"path": "/m", "checkpoint": "checkpoint-1"}) == {
        "model.checkpoint": "is given without model.from_job; accepted only with that"
    }


@pytest.mark.parametrize(("seconds", "fits"), [(0, False), (-1, False), (0.5, True), (86400, True), (86401, False)])
def test_a_chat_is_idle_for_a_day_at_most(seconds: float, fits: bool) -> None:
    found = without_training("chat", training__chat={"idleSeconds": seconds})
    words = f"is {seconds:g}; accepted is above 0, up to 86400"
    assert found == ({} if fits else {"chat.idle_seconds": words})


def test_a_chat_holds_all_tokens_of_a_conversation_and_ends_by_itself() -> None:
    made = used(Chat(), data=Data(max_length=512))
    assert (made.stage, made.data) == (Chat(idle_seconds=600.0), Data(max_length=512))
    assert used(Chat(idle_seconds=5.0)).stage == Chat(idle_seconds=5.0)


def test_only_what_a_stage_uses_is_spelled_out() -> None:
    assert used(Evaluate(), data=ROWS, evaluation=Evaluation(generation=Generation(max_rows=2))) == TrainingSpec(
        model=Model(path="/m", dtype=Dtype.BF16, attention=Attention.SDPA),
        data=Data(
            eval=(DataSource("/d/a.jsonl", weight=1.0),),
            max_length=2048,
            long_rows=LongRows.TRUNCATE,
            thinking=Thinking.TEMPLATE,
            strict=False,
        ),
        compute=Compute(precision=Dtype.BF16, padding_free=True),
        evaluation=Evaluation(micro_batch=1, generation=Generation(2, 256, 0.0, None, (), 3)),
        stage=Evaluate(),
        resources=Resources(device=GPU, gpus=1, sharing=Sharing.SHARE),
        seed=42,
    )
    exported = used(Export(), CPU, output=Output(gguf=(GgufType.Q8_0,)))
    assert exported == TrainingSpec(
        model=Model(path="/m", dtype=Dtype.FP32, attention=Attention.SDPA),
        output=Output(dtype=Dtype.FP32, max_shard_bytes=5 * GIB, gguf=(GgufType.Q8_0,), ollama=False),
        stage=Export(),
        resources=Resources(device=CPU, sharing=Sharing.SHARE),
        seed=42,
    )


def test_an_export_has_the_format_of_the_model_it_is_of() -> None:
    assert used(Export(), CPU, BF16).output.dtype is Dtype.BF16
    assert used(Export(), CPU, FP16).output.dtype is Dtype.FP16
    asked = Output(dtype=Dtype.FP32)
    assert used(Export(), CPU, BF16, output=asked).output.dtype is Dtype.FP32


def test_without_gradients_a_model_needs_its_weights_and_a_forward_pass() -> None:
    several = used(Evaluate(), data=ROWS, evaluation=Evaluation(micro_batch=8))
    found = estimate(several, LLAMA, 2048)
    names = {term.name for term in found.terms}
    assert not names & {"gradients", "optimizer states", "saved activations", "adapters"}
    assert 15 * GIB < found.reserve_bytes < 22 * GIB
    answering = Evaluation(generation=Generation(max_new_tokens=512))
    assert "keys and values" in {t.name for t in estimate(used(Evaluate(), evaluation=answering), LLAMA, 2048).terms}
    assert found.disk_bytes < GIB
    [smaller, *_] = fixes(several, LLAMA, 2048, found.reserve_bytes - 1)
    assert [each.field for each in smaller.settings] == ["evaluation.micro_batch"]


def test_an_export_needs_room_for_what_it_writes() -> None:
    plain = estimate(used(Export(), CPU, BF16), LLAMA, 0)
    assert {"weights", "exported model"} <= {term.name for term in plain.terms}
    assert 14 * GIB < plain.disk_bytes < 17 * GIB
    with_file = estimate(used(Export(), CPU, BF16, output=Output(gguf=(GgufType.F16,))), LLAMA, 0)
    assert with_file.disk_bytes == pytest.approx(2 * plain.disk_bytes, rel=0.01)
    assert fixes(used(Export()), LLAMA, 0, GIB) == ()


def test_an_evaluation_that_ran_out_of_memory_goes_on_with_fewer_rows() -> None:
    found = relief.relieve(used(Evaluate(), data=ROWS, evaluation=Evaluation(micro_batch=8)))
    assert found is not None
    assert found.message == "evaluation.micro_batch 8 → 4"
    assert relief.relieve(used(Evaluate(), data=ROWS)) is None
    assert relief.relieve(used(Export())) is None


async def end(door: Door, job: Job, outcome: Outcome = Outcome.COMPLETED) -> None:
    assert job.estimate is not None
    failure = Failure(FailureClass.INTERNAL, "no") if outcome is Outcome.FAILED else None
    ended = Ended(outcome, failure)
    for event in (Prepared(DataReport(), "/p", job.estimate), Placed(("cpu",), 1), Running(), ended):
        await door.queue.apply(job.id, event)


def checkpoint(door: Door, job: Job, step: int) -> str:
    folder = door.queue.runs.get(job.id).path / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    manifest.write(folder, job.id, step, "digest")
    return str(folder)


async def test_a_checkpoint_of_a_job_that_failed_can_be_used(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        first = await door.submit(name="first", method=Lora(rank=4))
        await end(door, first)
        top = await door.submit(name="top", model=Model(from_job="first"), method=Lora())
        found = await door.refusals(model=Model(from_job="top", checkpoint="checkpoint-2"), data=Data(), stage=Export())
        assert "accepted is a job that has ended" in found["training.model.from_job"]
        door.queue.runs.create(top)
        await end(door, top, Outcome.FAILED)
        folder = checkpoint(door, top, 2)

        export = {"data": Data(), "stage": Export()}
        found = await door.refusals(model=Model(from_job="top"), **export)
        assert "which has failed and left no output" in found["training.model.from_job"]
        found = await door.refusals(model=Model(from_job="top", checkpoint="checkpoint-3"), **export)
        text = f"is checkpoint-3, which is no complete checkpoint of job {top.id}; it has checkpoint-2"
        assert found == {"training.model.checkpoint": text}
        made = await door.submit(model=Model(from_job="top", checkpoint="checkpoint-2"), **export)
        # What its adapter stands on is in no file of the checkpoint.
        assert made.resolved.model.adapters == (
            Weights(path=first.output_path, from_job=first.id),
            Weights(path=folder, from_job=top.id),
        )
        assert made.resolved.model.path == str(host.model)
        assert {each.job: each.condition for each in made.dependencies}[top.id] is DependencyCondition.ANY


async def test_an_adapter_of_4_bit_weights_is_used_on_such_weights(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        job = await door.submit(name="small", method=Qlora())
        exported = await door.submit(model=Model(from_job="small"), data=Data(), stage=Export())
        assert exported.resolved.method == replace(job.resolved.method, lora=None)
        merged = await door.submit(name="merged", method=Qlora(), output=Output(merge=True))
        assert (await door.submit(model=Model(from_job=merged.id), data=Data(), stage=Export())).resolved.method is None
        other = Weights(path="/elsewhere")
        found = await door.refusals(model=Model(from_job="small", adapters=(other,)), data=Data(), stage=Export())
        assert found["training.model.from_job"].endswith("no other one goes on top; leave model.adapters out")

    small, whole = (
        estimate(replace(used(Evaluate(), data=ROWS), method=method), LLAMA, 2048).reserve_bytes
        for method in (Qlora(quant_type=QuantType.NF4, double_quant=True), None)
    )
    assert small < whole / 2


async def test_an_adapter_that_does_not_stand_alone_is_taken_from_the_output(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        job = await door.submit(name="turned", method=Lora(init=LoraInit.PISSA))
        door.queue.runs.create(job)
        await end(door, job)
        checkpoint(door, job, 2)
        model = Model(from_job="turned", checkpoint="checkpoint-2")
        found = await door.refusals(model=model, data=Data(), stage=Export())
        assert found["training.model.from_job"].endswith("adapters that do not stand alone; accepted is its output")
        assert await door.submit(model=Model(from_job="turned"), data=Data(), stage=Export())


async def test_an_export_is_a_model_and_an_evaluation_is_none(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        rows = Data(eval=(DataSource(host.data),))
        first = await door.submit(name="first", method=Lora(rank=4))
        exported = await door.submit(name="whole", model=Model(from_job="first"), data=Data(), stage=Export())
        evaluated = await door.submit(name="figures", model=Model(from_job="whole"), data=rows, stage=Evaluate())
        assert evaluated.resolved.model == replace(
            evaluated.resolved.model, path=exported.output_path, from_job=exported.id, adapters=()
        )
        assert [each.job for each in exported.dependencies] == [first.id]
        found = await door.refusals(model=Model(from_job="figures"), method=Full())
        text = "whose output is a report; accepted is a model or an adapter"
        assert found["training.model.from_job"] == f"is job {evaluated.id}, {text}"


def test_a_batch_is_no_field_of_an_evaluation() -> None:
    assert used(Evaluate(), data=ROWS).batch == Batch()
