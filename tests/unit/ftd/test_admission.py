"""The door: what other jobs, the clock and the project's quota say to a spec."""

from __future__ import annotations

import pytest

from ftd.admission import beyond_quota
from ftd.intake import Accepted
from ftd.records import MemoryEstimate
from ftd.spec import DeviceKind, JobSpec, Resources, TrainingSpec
from ftd.validate import check
from ftsched.model import Quota

GIB = 2**30


def accepted(device: DeviceKind = DeviceKind.GPU, gpus: int | None = 2) -> Accepted:
    training = TrainingSpec(resources=Resources(device=device, gpus=gpus))
    return Accepted("name", "nlp", training, MemoryEstimate((), GIB, 10 * GIB, "layer", 0.1, 128, "test"))


@pytest.mark.parametrize(
    ("quota", "field", "text"),
    [
        (Quota(), None, ""),
        (Quota(devices=2, memory_bytes=20 * GIB, running=1, queued=1), None, ""),
        (Quota(running=0), "project", "quota is 0 running jobs"),
        (Quota(queued=0), "project", "quota is 0 queued jobs"),
        (Quota(devices=1), "training.resources.gpus", "is 2, but project nlp may hold 1 GPUs at once; accepted is 1"),
        (Quota(devices=0), "training.resources.gpus", "accepted is another project"),
        (Quota(memory_bytes=19 * GIB), "training.resources", "needs 20.0 GiB of GPU memory in all"),
    ],
)
def test_what_a_project_may_never_hold_is_refused(quota: Quota, field: str | None, text: str) -> None:
    found = list(beyond_quota(accepted(), quota))
    assert [each.field for each in found] == ([field] if field else [])
    assert all(text in each.description for each in found)


def test_a_job_on_the_cpu_takes_no_gpus_of_a_quota() -> None:
    assert list(beyond_quota(accepted(DeviceKind.CPU, None), Quota(devices=0, memory_bytes=0))) == []
    assert len(list(beyond_quota(accepted(DeviceKind.CPU, None), Quota(running=0)))) == 1


def test_a_deadline_before_the_start_is_refused() -> None:
    def fields(spec: JobSpec) -> set[str]:
        return {each.field for each in check(spec, DeviceKind.CPU) if not each.field.startswith("training")}

    assert fields(JobSpec(not_before=10.0, deadline=11.0)) == set()
    assert fields(JobSpec(not_before=10.0, deadline=10.0)) == {"deadline"}
    assert fields(JobSpec(not_before=-1.0, deadline=1e300)) == {"not_before", "deadline"}
