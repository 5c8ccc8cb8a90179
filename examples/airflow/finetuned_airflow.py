"""An Airflow operator that trains on the daemon and holds no worker meanwhile.

    train = TrainOperator(task_id="train", spec="/srv/specs/support.yaml", overrides=["schedule.max_steps=200"])

It submits the job and defers: a trigger waits for its end. The request id names this run of this operator: a try that
comes after a lost worker finds the same job, and one that comes after a failed training retries that one from its
newest checkpoint. What it leaves (XCom) is the job's id. FTD_ADDRESS says where the daemon is, or `address`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.triggers.base import BaseTrigger, TriggerEvent

from ftclient import AsyncClient, Client, JobState, load_spec


class TrainOperator(BaseOperator):
    """Trains what a spec file says; `overrides` are as those of `ftctl --set`."""

    template_fields: Sequence[str] = ("spec", "overrides")

    def __init__(self, *, spec: str, overrides: Sequence[str] = (), address: str | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.spec = spec
        self.overrides = list(overrides)
        self.address = address

    def execute(self, context: Context) -> None:
        """Submits, or finds what an earlier try has submitted; then defers."""
        run = context["ti"]
        key = f"airflow/{run.dag_id}/{run.run_id}/{run.task_id}/{run.map_index}"
        with Client(self.address) as client:
            job = client.submit(
                load_spec(self.spec, self.overrides), labels={"airflow-dag": run.dag_id}, request_id=key
            )
            if job.state in (JobState.FAILED, JobState.CANCELLED):
                job = client.retry(job)
        self.log.info("job %s", job.id)
        self.defer(trigger=JobEnded(job.id, self.address), method_name="ended")

    def ended(self, context: Context, event: dict[str, str]) -> str:
        """Called when the job has ended: its id, or its reason as the error of this try."""
        with Client(self.address) as client:
            return client.wait(event["job"]).id


class JobEnded(BaseTrigger):
    """Fires when the job has ended, however. It may be started again anywhere: it only asks."""

    def __init__(self, job: str, address: str | None) -> None:
        super().__init__()
        self.job = job
        self.address = address

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How Airflow makes it again in another process."""
        return f"{__name__}.JobEnded", {"job": self.job, "address": self.address}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Waits as long as it takes, also for a daemon that is away."""
        async with AsyncClient(self.address) as client:
            while not (await client.wait_job(self.job, timeout=600)).job.state.finished:
                pass
        yield TriggerEvent({"job": self.job})

    async def on_kill(self) -> None:
        """Somebody ended this run in Airflow: so is its job, with a checkpoint."""
        async with AsyncClient(self.address) as client:
            await client.cancel(self.job, save=True)
