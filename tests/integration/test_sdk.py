"""The Python SDK against a real daemon: changes across a kill, late answers, many waits on one loop, single labels."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.daemon import Daemon

from ftclient import AsyncClient, Client, InvalidRequest, JobFailed, JobState

LONG = {"steps": 10_000, "step_seconds": 0.02}
WHOLE_LIFE = [JobState.PREPARING, JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.SUCCEEDED]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(f"unix:{daemon.socket}") as client:
        yield client


def test_changes_are_told_once_though_the_daemon_is_killed(daemon: Daemon, client: Client) -> None:
    job = daemon.submit({"steps": 3}, name="first")
    changes = client.watch_jobs()
    told = [next(changes)]
    daemon.kill()
    daemon.start()
    while told[-1].transition is None or not told[-1].transition.to_state.finished:
        told.append(next(changes))
    changes.close()
    states = [change.transition.to_state for change in told if change.transition]
    assert {change.job for change in told} == {job}
    assert [state for state in states if state in WHOLE_LIFE] == list(dict.fromkeys(states))
    assert states[-1] is JobState.SUCCEEDED
    again = client.watch_jobs(cursor=told[0].cursor, follow=False)
    assert [change.cursor for change in again] == [change.cursor for change in told[1:]]


def test_a_late_answer(daemon: Daemon, client: Client) -> None:
    job = daemon.submit(LONG)
    found = client.wait_job(job, states=[JobState.RUNNING], timeout=30)
    assert (found.reached, found.job.state) == (True, JobState.RUNNING)
    assert not client.wait_job(job, timeout=0).reached
    client.cancel(job)
    assert client.wait_job(job, timeout=30).job.state is JobState.CANCELLED


def test_single_labels_and_selectors(daemon: Daemon, client: Client) -> None:
    job = client.submit(daemon.spec(hold=True), name="labelled", labels={"team": "cx", "tier": "free"})
    edited = client.edit(job, labels={"tier": None, "app.example.com/owner": "me"}, annotations={"run": "7"})
    assert edited.labels == {"team": "cx", "app.example.com/owner": "me"}
    assert client.get(job).annotations == {"run": "7"}
    assert [each.id for each in client.list(selector="team in (cx,nlp),!tier")] == [job.id]
    assert list(client.list(selector="tier")) == []
    with pytest.raises(InvalidRequest):
        list(client.list(selector="team in (cx"))


async def test_many_waits_on_one_loop(daemon: Daemon) -> None:
    async with AsyncClient(f"unix:{daemon.socket}") as client:
        jobs = [client.job(daemon.submit({"steps": 2})) for _ in range(3)]
        broken = client.job(daemon.submit({"steps": 2, "fail_at": 1}))
        results = await asyncio.gather(*(job.wait(timeout=60) for job in [*jobs, broken]), return_exceptions=True)
    assert [getattr(result, "state", None) for result in results[:3]] == [JobState.SUCCEEDED] * 3
    assert isinstance(results[3], JobFailed)
