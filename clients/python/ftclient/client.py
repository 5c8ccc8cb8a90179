"""The SDK's client for programs that block: each call of the daemon as a method, one after the other.

What they do is in `ftclient.calls`, and said there once for this one and for `ftclient.aio.AsyncClient`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from ftclient.calls import Calls
from ftclient.connection import PATIENCE, Connection
from ftclient.contexts import target
from ftclient.handles import Handle, of_job
from ftclient.results import Job
from ftclient.transport import Blocking, finish, iterate

P = ParamSpec("P")
T = TypeVar("T")


def _call(call: Callable[Concatenate[Calls, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Client, P], T]:
    """The same call, which blocks until it has its result."""

    @wraps(call)
    def blocking(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return finish(call(client._calls, *args, **kwargs))

    return blocking


def _stream(
    call: Callable[Concatenate[Calls, P], AsyncGenerator[T]],
) -> Callable[Concatenate[Client, P], Generator[T]]:
    """The same call, whose items come in a `for` that blocks."""

    @wraps(call)
    def blocking(client: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        return iterate(call(client._calls, *args, **kwargs))

    return blocking


class Client:
    """A connection to the daemon: to `address`, else to what the environment, the user's contexts or the defaults say.

    `token` says who calls, `context` names one of `ftclient.contexts`; a stream that lost the daemon tries for
    `patience` seconds to find it again. Connects at the first call. Use it as a context manager, or call `close`.
    Safe to use from several threads. Raises ContextError.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        context: str | None = None,
        token: str | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._connection = Connection(target(address, context=context, token=token), Blocking(), patience)
        self._calls = Calls(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every call and stream that is open."""
        finish(self._connection.close())

    submit = _call(Calls.submit)
    plan = _call(Calls.plan)
    get = _call(Calls.get)
    explain = _call(Calls.explain)
    list = _stream(Calls.list)
    update = _call(Calls.update)
    edit = _call(Calls.edit)
    cancel = _call(Calls.cancel)
    pause = _call(Calls.pause)
    hold = _call(Calls.hold)
    save = _call(Calls.save)
    stop = _call(Calls.stop)
    resume = _call(Calls.resume)
    release = _call(Calls.release)
    retry = _call(Calls.retry)
    delete = _call(Calls.delete)

    watch = _stream(Calls.watch)
    metrics = _stream(Calls.metrics)
    logs = _stream(Calls.logs)
    history = _call(Calls.history)
    wait = _call(Calls.wait)
    wait_job = _call(Calls.wait_job)
    watch_jobs = _stream(Calls.watch_jobs)

    generate = _stream(Calls.generate)

    data_report = _call(Calls.data_report)
    preview_data = _call(Calls.preview_data)
    check_data = _stream(Calls.check_data)

    upload = _call(Calls.upload)
    datasets = _stream(Calls.datasets)
    dataset = _call(Calls.dataset)
    delete_dataset = _call(Calls.delete_dataset)

    artifacts = _call(Calls.artifacts)
    download = _call(Calls.download)
    delete_artifact = _call(Calls.delete_artifact)

    host = _call(Calls.host)
    queue = _call(Calls.queue)
    projects = _call(Calls.projects)
    quarantine_device = _call(Calls.quarantine_device)
    release_device = _call(Calls.release_device)

    def job(self, job: str | Job) -> JobHandle:
        """The calls that take a job, for this one: `ft.job("support-v3").wait()`. Asks the daemon nothing yet."""
        return JobHandle(self, job)


class JobHandle(Handle[Client]):
    """A job with the calls of its client."""

    get = of_job(Client.get)
    explain = of_job(Client.explain)
    update = of_job(Client.update)
    edit = of_job(Client.edit)
    cancel = of_job(Client.cancel)
    pause = of_job(Client.pause)
    hold = of_job(Client.hold)
    save = of_job(Client.save)
    stop = of_job(Client.stop)
    resume = of_job(Client.resume)
    release = of_job(Client.release)
    retry = of_job(Client.retry)
    delete = of_job(Client.delete)
    watch = of_job(Client.watch)
    metrics = of_job(Client.metrics)
    logs = of_job(Client.logs)
    history = of_job(Client.history)
    wait = of_job(Client.wait)
    wait_job = of_job(Client.wait_job)
    data_report = of_job(Client.data_report)
    artifacts = of_job(Client.artifacts)
    download = of_job(Client.download)
    delete_artifact = of_job(Client.delete_artifact)
    generate = of_job(Client.generate)
