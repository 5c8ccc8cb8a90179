"""What a client sees of an error: code, reason and words, and nothing internal."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

import ftd.journal
from ftd import errors
from ftd.errors import FtdError, InvalidSpec, JobNotFound, Violation
from ftd.service.errors import to_status


def reason_of(status: status_pb2.Status) -> tuple[str, str]:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.domain, info.reason


def kinds(cls: type[FtdError] = FtdError) -> list[type[FtdError]]:
    return [cls, *(kind for below in cls.__subclasses__() for kind in kinds(below))]


def test_an_error_of_ours_keeps_its_words() -> None:
    status = to_status(JobNotFound("x"), "/m")
    assert (status.code, status.message) == (code_pb2.NOT_FOUND, "no job has the id, id prefix or name 'x'")
    assert reason_of(status) == ("finetuned", "JOB_NOT_FOUND")


def test_every_violation_is_a_detail() -> None:
    violations = [Violation("priority", "is 500"), Violation("training.seed", "is -1")]
    status = to_status(InvalidSpec(violations), "/m")
    problems = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(problems)
    assert [(v.field, v.description) for v in problems.field_violations] == [
        ("priority", "is 500"),
        ("training.seed", "is -1"),
    ]


@pytest.mark.parametrize(
    "error", [KeyError("/secret/path"), FtdError("/secret/path"), RuntimeError("sql: /secret/path")]
)
def test_a_bug_is_told_by_its_id_alone(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    status = to_status(error, "/finetuned.v1.JobService/GetJob")
    assert status.code == code_pb2.INTERNAL
    assert "/secret/path" not in status.message
    number = status.message.split("id ")[1].split(";")[0]
    logged = capsys.readouterr().out
    assert number in logged
    assert "/secret/path" in logged


def test_every_class_has_a_code_and_a_reason_of_its_own() -> None:
    assert ftd.journal.JournalCorrupt in kinds()
    for kind in kinds():
        code_pb2.Code.Value(kind.code)
    # One that says more about what its base says has the base's.
    reasons = [kind.reason for kind in kinds() if "reason" in vars(kind)]
    assert len(set(reasons)) == len(reasons)
    for kind in kinds()[1:]:
        assert f"── {kind.__name__} " in (errors.__doc__ or "")
