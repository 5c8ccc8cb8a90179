"""Chains of jobs at the door: what a new job comes after, what describes its model, and all that is wrong at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.parts import nothing_sent, opened_queue
from tests.unit.ftd.test_intake import CPU, Host

from ftd.admission import Admission
from ftd.errors import InvalidSpec
from ftd.job import Job
from ftd.methods import Full, Lora, Qlora
from ftd.moves import CancelRequested, Ended, Placed, Prepared, Running
from ftd.paths import Roots
from ftd.queue import Queue
from ftd.records import DataReport, Outcome
from ftd.secrets import Secrets
from ftd.spec import JobSpec, Model
from ftd.tracking import TrackerPolicy
from ftd.weights import Resume, Weights


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


class Door:
    """An admission with a queue behind it."""

    def __init__(self, host: Host, queue: Queue) -> None:
        self.host = host
        self.queue = queue
        self.admission = Admission(
            queue, host.intake(), queue.runs, {}, TrackerPolicy((), Secrets(), Roots(())), nothing_sent, lambda: 5.0
        )

    async def submit(self, **changes: Any) -> Job:
        return await self.queue.submit(await self.admission.admit(self.spec(**changes), (CPU,)))

    def spec(self, name: str | None = None, **changes: Any) -> JobSpec:
        return replace(self.host.spec(**changes), name=name)

    async def refusals(self, **changes: Any) -> dict[str, str]:
        with pytest.raises(InvalidSpec) as caught:
            await self.admission.admit(self.spec(**changes), (CPU,))
        return {each.field: each.description for each in caught.value.violations}

    async def succeed(self, job: Job) -> None:
        estimate = job.estimate
        assert estimate is not None
        for event in (Prepared(DataReport(), "/p", estimate), Placed(("cpu",), 1), Running(), Ended(Outcome.COMPLETED)):
            await self.queue.apply(job.id, event)


async def test_a_pipeline_is_resolved_before_anything_has_run(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        whole = await door.submit(name="whole", method=Full())
        adapter = await door.submit(name="adapter", model=Model(from_job="whole"), method=Lora(rank=4))
        top = await door.submit(model=Model(from_job="adapter"), method=Lora())
        assert [each.job for each in adapter.dependencies] == [whole.id]
        # The adapter is needed, and what it goes onto, which is nobody's folder but that job's.
        assert [each.job for each in top.dependencies] == [adapter.id, whole.id]
        assert top.resolved.model.path == whole.output_path
        assert top.resolved.model.adapters == (Weights(path=adapter.output_path, from_job=adapter.id),)
        assert top.estimate == replace(top.estimate or whole.estimate, basis="arithmetic for llama")
        assert top.reason.message.startswith("its data is to be prepared once ")


async def test_the_config_of_an_output_counts_once_it_is_there(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        whole = await door.submit(name="whole", method=Full())
        await door.succeed(whole)
        found = await door.refusals(model=Model(from_job="whole"))
        assert "which does not exist on the daemon's host" in found["training.model.path"]
        output = Path(whole.output_path)
        output.mkdir(parents=True)
        for file in host.model.iterdir():
            (output / file.name).write_bytes(file.read_bytes())
        grown = json.loads((output / "config.json").read_text()) | {"num_hidden_layers": 40}
        (output / "config.json").write_text(json.dumps(grown))
        taken = await door.submit(model=Model(from_job="whole"))
        assert taken.estimate is not None
        assert whole.estimate is not None
        first = await door.submit(model=Model(path=str(host.model)))
        assert first.estimate is not None
        assert taken.estimate.peak_bytes > first.estimate.peak_bytes


async def test_everything_that_is_wrong_is_told_at_once(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        adapter = await door.submit(name="adapter", method=Lora(rank=4))
        found = await door.refusals(
            name="mine",
            model=Model(from_job="mine", adapters=(Weights(from_job="nobody"),)),
            resume=Resume(from_job="adapter"),
            method=Qlora(lora=Lora(rank=0)),
        )
        assert found["training.model.from_job"] == "is the job itself; accepted is another one"
        assert found["training.model.adapters[0].from_job"] == "no job has the id, id prefix or name 'nobody'"
        assert found["training.resume.from_job"].startswith(
            f"is job {adapter.id}, which is preparing; accepted is a job"
        )
        assert found["training.qlora.lora.rank"].startswith("is 0; accepted is")
        assert "training.model.adapters" in found


async def test_a_checkpoint_must_be_there_and_of_the_same_training(host: Host, tmp_path: Path) -> None:
    async with opened_queue(tmp_path) as queue:
        door = Door(host, queue)
        job = await door.submit(name="old", method=Lora(rank=4))
        await door.queue.apply(job.id, CancelRequested())
        await door.queue.apply(job.id, Ended(Outcome.STOPPED))
        found = await door.refusals(resume=Resume(from_job="old"), method=Lora(rank=4))
        text = f"left none, which is no complete checkpoint of job {job.id}; it has none"
        assert found == {"training.resume.from_job": text}
        found = await door.refusals(resume=Resume(path="/elsewhere/checkpoint-1"), method=Lora(rank=4))
        assert "outside the folders this host allows" in found["training.resume.path"]
