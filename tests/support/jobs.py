"""Jobs without a queue: a record as the store has it, in the state that a test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftd.datasets import Data, DataSource
from ftd.draft import new_id
from ftd.job import Job
from ftd.records import JobState, Reason, ReasonCode
from ftd.spec import JobSpec, TrainingSpec

# Of this test process alone: a launcher ends whatever another one started for the same attempt of the same job.
JOB_ID = new_id()


def fake_job(folder: Path, script: dict[str, Any], **fields: Any) -> Job:
    """A job for the fake trainer, which does as `script` says; its data lie in `folder`."""
    rows = folder / "rows.jsonl"
    Path(f"{rows}.fake.json").write_text(json.dumps(script))
    training = TrainingSpec(data=Data(train=(DataSource(path=str(rows)),)))
    values: dict[str, Any] = {
        "id": JOB_ID,
        "request_id": "",
        "spec": JobSpec(name="fake", training=training),
        "resolved": training,
        "name": "fake",
        "project": "default",
        "priority": 0,
        "max_retries": 2,
        "state": JobState.PREPARING,
        "reason": Reason(ReasonCode.SUBMITTED, "submitted"),
        "create_time": 1.0,
        "update_time": 1.0,
    }
    return Job(**{**values, **fields})
