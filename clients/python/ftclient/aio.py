"""The SDK's client for programs with an event loop: the methods of `Client`, for `await` and `async for`.

async with AsyncClient() as ft:
    job = await ft.submit(spec)
    async for event in ft.metrics(job):
        print(event.seq, event.kind)
"""

from __future__ import annotations

from typing import Self

from ftclient.calls import Calls
from ftclient.connection import PATIENCE, Connection
from ftclient.contexts import target
from ftclient.handles import Handle, of_job
from ftclient.results import Job
from ftclient.transport import OnLoop


class AsyncClient(Calls):
    """As `Client`. It belongs to the event loop of its first call; close a stream left early with `aclosing`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        context: str | None = None,
        token: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(Connection(target(address, context=context, token=token), OnLoop(), patience))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every call and stream that is open."""
        await self._connection.close()

    def job(self, job: str | Job) -> AsyncJobHandle:
        """The calls that take a job, for this one: `await ft.job("support-v3").wait()`. Asks the daemon nothing yet."""
        return AsyncJobHandle(self, job)


class AsyncJobHandle(Handle[Calls]):
    """A job with the calls of its client."""

    get = of_job(Calls.get)
    explain = of_job(Calls.explain)
    update = of_job(Calls.update)
    edit = of_job(Calls.edit)
    cancel = of_job(Calls.cancel)
    pause = of_job(Calls.pause)
    hold = of_job(Calls.hold)
    save = of_job(Calls.save)
    stop = of_job(Calls.stop)
    resume = of_job(Calls.resume)
    release = of_job(Calls.release)
    retry = of_job(Calls.retry)
    delete = of_job(Calls.delete)
    watch = of_job(Calls.watch)
    metrics = of_job(Calls.metrics)
    logs = of_job(Calls.logs)
    history = of_job(Calls.history)
    wait = of_job(Calls.wait)
    wait_job = of_job(Calls.wait_job)
    data_report = of_job(Calls.data_report)
    artifacts = of_job(Calls.artifacts)
    download = of_job(Calls.download)
    delete_artifact = of_job(Calls.delete_artifact)
    generate = of_job(Calls.generate)
