from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from inspect import getmembers, isclass
from typing import Any

import pytest
from tests.support.client import START, job

from finetuned.v1 import (
    artifact_service_pb2,
    chat_service_pb2,
    data_preview_pb2,
    data_report_pb2,
    dataset_service_pb2,
    event_pb2,
    host_service_pb2,
    job_changes_pb2,
    job_pb2,
    job_service_pb2,
    tracker_pb2,
    training_pb2,
    uploaded_data_pb2,
    weights_pb2,
)
from ftclient import changes, chat, enums, events, host, previews, results, stored, wire

MODULES = (
    job_pb2,
    event_pb2,
    data_report_pb2,
    host_service_pb2,
    job_service_pb2,
    job_changes_pb2,
    artifact_service_pb2,
    chat_service_pb2,
    data_preview_pb2,
    dataset_service_pb2,
    tracker_pb2,
    training_pb2,
    uploaded_data_pb2,
    weights_pb2,
)
# Records whose message has another name, and fields that stand in the stream's frame instead.
MESSAGES = {
    "Plan": "PlanJobResponse",
    "Explanation": "ExplainJobResponse",
    "Host": "GetHostResponse",
    "Event": "TrainingEvent",
    "DataCheck": "CheckDataResponse",
    "Waited": "WaitJobResponse",
    "Generated": "GenerateResponse",
}
NOT_IN_MESSAGE = {"Event": {"seq", "kind"}, "LogLine": {"seq"}}
IN_MESSAGE_ONLY = {
    "Event": {"started", "phase", "step", "evaluation", "checkpoint", "data", "notice", "ended", "answers"}
}
ENUMS = [e for _, e in getmembers(enums, isclass) if issubclass(e, StrEnum) and e is not StrEnum]


def records() -> list[Any]:
    found = [
        c
        for module in (results, changes, chat, host, events, previews, stored)
        for _, c in getmembers(module, isclass)
        if is_dataclass(c)
    ]
    return [c for c in dict.fromkeys(found) if c is not results.Record]


def descriptor(name: str) -> Any:
    return next(m.DESCRIPTOR for module in MODULES for n, m in getmembers(module) if n == name)


@pytest.mark.parametrize("record", records(), ids=lambda record: record.__name__)
def test_a_record_has_the_fields_of_its_message(record: Any) -> None:
    name = record.__name__
    ours = {field.name for field in fields(record)} - {"proto"} - NOT_IN_MESSAGE.get(name, set())
    theirs = {field.name for field in descriptor(MESSAGES.get(name, name)).fields}
    assert ours == theirs - IN_MESSAGE_ONLY.get(name, set())


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_an_enum_has_the_values_of_the_contract_in_their_order(enum: type[StrEnum]) -> None:
    theirs = next(e.DESCRIPTOR for module in MODULES for n, e in getmembers(module) if n == enum.__name__)
    prefix = theirs.values[0].name.removesuffix("UNSPECIFIED")
    assert [value.number for value in theirs.values] == list(range(len(enum)))
    assert [member.value for member in enum][1:] == [v.name.removeprefix(prefix).lower() for v in theirs.values[1:]]


def test_reading_a_job() -> None:
    message = job()
    message.transitions.add(to_state=job_pb2.JOB_STATE_PREPARING, actor="client").time.seconds = START
    found = wire.read(results.Job, message)
    assert found.proto is message
    assert found.state is enums.JobState.RUNNING
    assert found.create_time == datetime.fromtimestamp(START, UTC)
    assert found.end_time is None
    assert found.labels == {"team": "cx"}
    assert found.progress is not None
    assert found.progress.loss == pytest.approx(1.6)
    assert found.progress.eval_loss is None
    assert found.transitions[0].from_state is None
    assert found.failure is None
    assert found.spec is not None
    assert found.spec.training.model.path == "/models/smol"


def test_a_value_that_this_client_does_not_know() -> None:
    message = job()
    message.reason.code = 999
    found = wire.read(results.Job, message)
    assert found.reason is not None
    assert found.reason.code is enums.ReasonCode.UNKNOWN
