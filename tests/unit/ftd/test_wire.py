from __future__ import annotations

from dataclasses import replace

import pytest

from finetuned.v1 import job_pb2
from ftd import wire
from ftd.datasets import Data, DataSource
from ftd.errors import InvalidSpec
from ftd.job import Job
from ftd.methods import Qlora
from ftd.records import (
    Attempt,
    DataReport,
    DroppedRow,
    JobState,
    MemoryEstimate,
    MemoryTerm,
    Phase,
    Progress,
    Reason,
    ReasonCode,
    Transition,
)
from ftd.spec import Batch, JobSpec, Model, TrainingSpec
from ftd.stages import Dpo, Sft, TrainOn

SPEC = JobSpec(
    name="first",
    labels={"team": "a", "area": "b"},
    training=TrainingSpec(
        model=Model(path="/models/nano"),
        data=Data(train=(DataSource("/data/a.jsonl"), DataSource("/data/b.jsonl", weight=2.0))),
        stage=Sft(train_on=TrainOn.ALL),
        method=Qlora(),
    ),
)
JOB = Job(
    id="abcdefghij",
    request_id="r",
    spec=SPEC,
    resolved=SPEC.training,
    name="first",
    project="default",
    priority=0,
    max_retries=2,
    state=JobState.RUNNING,
    reason=Reason(ReasonCode.STARTED, "training"),
    create_time=1_700_000_000.25,
    update_time=1_700_000_001.5,
    estimate=MemoryEstimate((MemoryTerm("weights", 10),), 10, 12, "layer", 0.05, 2048, "arithmetic for llama"),
    data=DataReport(dropped=(DroppedRow(0, 3, "empty"),), digest="d"),
    attempts=(Attempt(1, ("cpu",), 1_700_000_001.125), Attempt(2, ("cpu",), 1_700_000_009.0)),
    transitions=(Transition(1_700_000_000.25, None, JobState.PREPARING, "client", Reason(ReasonCode.SUBMITTED, "")),),
    output_path="/runs/abcdefghij/output",
)


def with_training(**changes: object) -> JobSpec:
    return replace(SPEC, training=replace(SPEC.training, **changes))  # type: ignore[arg-type]


def test_unset_and_zero_stay_apart() -> None:
    unset = wire.to_proto(JobSpec(), job_pb2.JobSpec)
    zero = wire.to_proto(JobSpec(priority=0), job_pb2.JobSpec)
    assert not unset.HasField("priority")
    assert zero.HasField("priority")
    assert wire.from_proto(JobSpec, unset).priority is None
    assert wire.from_proto(JobSpec, zero).priority == 0


def test_an_empty_stage_or_method_is_kept() -> None:
    message = wire.to_proto(SPEC, job_pb2.JobSpec)
    assert message.training.WhichOneof("method") == "qlora"
    assert not message.training.qlora.HasField("lora")


def test_an_empty_group_is_not_written() -> None:
    assert not wire.to_proto(SPEC, job_pb2.JobSpec).training.HasField("optimizer")


def test_an_explicitly_unspecified_enum_reads_as_unset() -> None:
    message = wire.to_proto(SPEC, job_pb2.JobSpec)
    message.training.model.dtype = 0
    assert wire.read_spec(message).training.model.dtype is None


def test_canonical_bytes_do_not_depend_on_the_order_of_labels() -> None:
    other = replace(SPEC, labels={"area": "b", "team": "a"})
    assert wire.canonical(other) == wire.canonical(SPEC)
    assert wire.canonical(replace(SPEC, name="second")) != wire.canonical(SPEC)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (SPEC, []),
        (replace(SPEC, name="second", priority=0), ["name", "priority"]),
        (replace(SPEC, labels={}), ["labels"]),
        (with_training(batch=Batch(global_batch=8)), ["training.batch.global_batch"]),
        (with_training(data=Data(train=SPEC.training.data.train[:1])), ["training.data.train"]),
        (with_training(stage=Sft()), ["training.sft.train_on"]),
        (with_training(stage=Dpo(beta=0.2)), ["training.sft.train_on", "training.dpo.beta"]),
        (with_training(method=None), ["training.qlora"]),
    ],
)
def test_differences_are_field_paths(other: JobSpec, expected: list[str]) -> None:
    assert wire.differences(SPEC, other) == expected
    assert wire.differences(other, SPEC) == expected


def test_a_field_of_a_newer_client_is_refused() -> None:
    newer = wire.canonical(SPEC) + b"\xa0\x06\x01"  # field 100, varint 1
    with pytest.raises(InvalidSpec, match="field with the number 100; this daemon is older than the client") as caught:
        wire.read_spec(job_pb2.JobSpec.FromString(newer))
    assert [v.field for v in caught.value.violations] == ["spec"]


def test_a_value_of_a_newer_client_is_refused_where_it_stands() -> None:
    message = wire.to_proto(SPEC, job_pb2.JobSpec)
    message.training.data.train[1].format = 99  # type: ignore[assignment]
    message.training.sft.train_on = 77  # type: ignore[assignment]
    with pytest.raises(InvalidSpec) as caught:
        wire.read_spec(message)
    assert [v.field for v in caught.value.violations] == ["training.data.train[1].format", "training.sft.train_on"]
    assert caught.value.violations[0].description.startswith("has the value number 99; this daemon is older")


def test_the_public_view_of_a_job() -> None:
    progress = Progress(phase=Phase.TRAINING, step=3)
    message = wire.job_to_proto(JOB, progress, "/runs/abcdefghij", full=True)
    assert wire.from_proto(JobSpec, message.spec) == SPEC
    assert message.progress.step == 3
    assert message.start_time.seconds == 1_700_000_001
    assert message.start_time.nanos == 125_000_000
    assert not message.HasField("end_time")
    assert not message.data.dropped
    assert message.data.digest == "d"
    assert len(message.attempts) == 2
    assert message.transitions[0].from_state == job_pb2.JOB_STATE_UNSPECIFIED
    assert message.run_directory == "/runs/abcdefghij"


def test_the_output_path_is_shown_when_there_is_an_output() -> None:
    assert wire.job_to_proto(JOB, Progress(), "/runs/a", full=True).output_path == ""
    done = replace(JOB, state=JobState.SUCCEEDED)
    assert wire.job_to_proto(done, Progress(), "/runs/a", full=True).output_path == "/runs/abcdefghij/output"


def test_a_listed_job_leaves_out_what_is_long() -> None:
    message = wire.job_to_proto(JOB, Progress(), "/runs/a", full=False)
    assert message.HasField("spec")
    assert not message.HasField("resolved")
    assert not message.attempts
    assert not message.transitions
    assert message.HasField("start_time")
