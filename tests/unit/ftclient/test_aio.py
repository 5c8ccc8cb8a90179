"""The client for event loops: the methods of the one that blocks, and its manners when the connection breaks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, log_lines, training_events

from ftclient import AsyncClient, Client, FtError, JobFailed, NotFound, Unavailable, WaitTimeout
from ftclient.aio import AsyncJobHandle
from ftclient.client import JobHandle
from ftclient.transport import Credentials, OnLoop

STEPS = 6


@pytest.fixture
async def client(daemon: FakeDaemon) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(daemon.address, patience=5.0) as connected:
        yield connected


@pytest.fixture
def finished(daemon: FakeDaemon) -> str:
    made = job("SUCCEEDED", step=STEPS, output_path="/out")
    daemon.jobs[made.id] = made
    daemon.events[made.id] = training_events(STEPS)
    daemon.log_lines[made.id] = log_lines(30)
    return made.id


def public(cls: type) -> dict[str, list[inspect.Parameter]]:
    """The methods of a class with their parameters."""
    methods = inspect.getmembers(cls, inspect.isfunction)
    return {name: [*inspect.signature(each).parameters.values()] for name, each in methods if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    assert public(Client) == public(AsyncClient)


def test_a_handle_has_every_call_that_takes_a_job() -> None:
    of_jobs = {name: [me, *rest[1:]] for name, (me, *rest) in public(Client).items() if rest and rest[0].name == "job"}
    del of_jobs["job"]
    assert public(JobHandle) == public(AsyncJobHandle) == of_jobs


async def test_a_handle_is_its_job(daemon: FakeDaemon, client: AsyncClient, finished: str) -> None:
    assert (await client.job("support-v3").wait()).id == finished
    assert [line.seq async for line in client.job(finished).logs(tail=2)] == [29, 30]
    with Client(daemon.address) as blocking:
        handle = blocking.job(blocking.get(finished))
        assert (handle.wait(timeout=5).id, repr(handle)) == (finished, f"JobHandle({finished!r})")
        assert [line.seq for line in handle.logs(tail=2)] == [29, 30]


async def test_a_submit_whose_answer_is_lost_makes_one_job(daemon: FakeDaemon, client: AsyncClient) -> None:
    daemon.lost_answers = 2
    made = await client.submit({"model": {"path": "/m"}}, name="mine", labels={"team": "cx"})
    assert list(daemon.jobs) == [made.id]
    assert made.spec is not None
    assert (made.name, dict(made.spec.labels)) == ("mine", {"team": "cx"})


async def test_a_list_is_fetched_page_by_page(daemon: FakeDaemon, client: AsyncClient) -> None:
    for number in range(5):
        daemon.jobs[f"job{number}"] = job(id=f"job{number}")
    assert [found.id async for found in client.list(page_size=2)] == [f"job{number}" for number in range(5)]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK])
async def test_cut_at_each_record_without_gap_or_repeat(
    daemon: FakeDaemon, client: AsyncClient, finished: str, code: grpc.StatusCode
) -> None:
    daemon.cut_code = code
    total = STEPS + 4
    for record in range(total + 1):
        daemon.cuts.append(record)
        assert [event.seq async for event in client.metrics(finished)] == list(range(1, total + 1))


async def test_waiting(daemon: FakeDaemon, client: AsyncClient, finished: str) -> None:
    assert (await client.wait(finished)).output_path == "/out"
    daemon.jobs[finished].state = job("FAILED").state
    with pytest.raises(JobFailed) as caught:
        await client.wait(finished)
    assert caught.value.log_tail[-1] == "line 30"
    daemon.jobs[finished].state = job("RUNNING").state
    with pytest.raises(WaitTimeout):
        await client.wait(finished, timeout=0.2)


async def test_many_streams_at_once_on_one_loop(daemon: FakeDaemon, client: AsyncClient, finished: str) -> None:
    async def last() -> int:
        return [event.seq async for event in client.metrics(finished)][-1]

    assert await asyncio.gather(*(last() for _ in range(8))) == [STEPS + 4] * 8


async def test_first_calls_at_once_open_one_channel(
    daemon: FakeDaemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def connect(self: OnLoop, address: str, credentials: Credentials) -> None:
        opened.append(address)
        whole(self, address, credentials)

    whole = OnLoop.connect
    monkeypatch.setattr(OnLoop, "connect", connect)
    await asyncio.gather(*(client.host() for _ in range(4)))
    assert opened == [daemon.address]


async def test_a_stream_that_is_left_early_ends(daemon: FakeDaemon, client: AsyncClient, finished: str) -> None:
    daemon.jobs[finished].state = job("RUNNING").state
    async with aclosing(client.metrics(finished)) as events:
        assert (await anext(events)).seq == 1
    waiting = asyncio.ensure_future(client.wait(finished))
    await client.get(finished)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_errors_are_those_of_the_other_client(daemon: FakeDaemon, client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        await client.get("nobody")
    with pytest.raises(NotFound, match="'nobody'"):
        await anext(client.metrics("nobody"))
    async with AsyncClient(f"unix:{tmp_path}/none.sock") as lost:
        with pytest.raises(Unavailable) as caught:
            await lost.host()
    assert caught.value.tried == {f"unix:{tmp_path}/none.sock": "no such socket"}
    await client.close()
    with pytest.raises(FtError, match="this client is closed"):
        await client.host()


async def test_the_blocking_client_works_where_a_loop_runs(daemon: FakeDaemon, finished: str) -> None:
    with Client(daemon.address) as blocking:
        events = blocking.metrics(finished)
        assert next(events).seq == 1
        events.close()
        assert blocking.wait(finished).output_path == "/out"
