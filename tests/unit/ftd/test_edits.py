"""UpdateJob's mask: what it names is changed, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.jobs import fake_job

from finetuned.v1 import job_service_pb2
from ftd.errors import InvalidRequest
from ftd.job import Job
from ftd.service.edits import read_edit


def edited(folder: Path, paths: list[str], **fields: Any) -> Job:
    """A job with the labels a=1, b=2 after this request."""
    request = job_service_pb2.UpdateJobRequest(**fields)
    request.update_mask.paths.extend(paths)
    job = fake_job(folder, {}, labels={"a": "1", "b": "2"}, annotations={"note": "old"}, priority=3)
    return read_edit(request)(job)


def test_what_is_not_named_stays(tmp_path: Path) -> None:
    job = edited(tmp_path, ["front"], priority=9, front=True, labels={"c": "3"})
    assert (job.front, job.priority, job.labels) == (True, 3, {"a": "1", "b": "2"})


def test_one_entry_is_set_or_removed(tmp_path: Path) -> None:
    job = edited(tmp_path, ["labels.a", "labels.b", "labels.x.org/y"], labels={"a": "9", "x.org/y": "z", "no": "1"})
    assert job.labels == {"a": "9", "x.org/y": "z"}
    assert edited(tmp_path, ["annotations.gone"]).annotations == {"note": "old"}


def test_all_entries_are_replaced(tmp_path: Path) -> None:
    job = edited(tmp_path, ["labels", "annotations", "priority"], labels={"c": "3"}, priority=-1)
    assert (job.labels, job.annotations, job.priority) == ({"c": "3"}, {}, -1)


@pytest.mark.parametrize("paths", [[], ["name"], ["labels", "state"], ["priority.a"], ["labels."], [""]])
def test_a_mask_that_cannot_be_meant_is_refused(tmp_path: Path, paths: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="it names one or more of priority, front, labels"):
        edited(tmp_path, paths)


def test_a_whole_and_one_of_its_entries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="names labels and one of its entries"):
        edited(tmp_path, ["labels", "labels.a", "priority"])
