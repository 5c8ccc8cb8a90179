"""The cases that both SDKs run, here by the Python one, blocking and asynchronous; see vectors/README.md."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from tests.fakes.daemon import FakeDaemon
from tests.support.daemon import Daemon
from tests.support.served import finished_job

import ftclient
from finetuned.v1 import job_pb2, job_service_pb2
from ftclient import AsyncClient, Client

VECTORS = Path(__file__).with_name("vectors")
MESSAGES = {m.DESCRIPTOR.name: m for m in (job_pb2.JobSpec, job_pb2.Progress, job_service_pb2.UpdateJobRequest)}
# Answers a call of the SDK with its result; of a stream with the list of its items.
Sdk = Callable[..., Any]


def cases(name: str) -> pytest.MarkDecorator:
    found = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


def blocking(address: str, call: str, *args: Any, **kwargs: Any) -> Any:
    with Client(address) as client:
        result = getattr(client, call)(*args, **kwargs)
        return list(result) if isinstance(result, Iterator) else result


def asynchronous(address: str, call: str, *args: Any, **kwargs: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(address) as client:
            result = getattr(client, call)(*args, **kwargs)
            return [item async for item in result] if inspect.isasyncgen(result) else await result

    return asyncio.run(run())


@pytest.fixture(params=[blocking, asynchronous])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the jobs that errors.json speaks of."""
    with Daemon(tmp_path_factory.mktemp("vectors")) as running:
        running.submit(name="held", hold=True)
        for _ in range(2):
            running.submit(name="twins", hold=True)
        running.wait(running.submit(name="ended"), "SUCCEEDED")
        yield running


@pytest.fixture(scope="module")
def cutting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path_factory.mktemp("cut") / "ftd.sock") as running:
        yield running


@cases("specs")
def test_specs(daemon: Daemon, sdk: Sdk, case: dict[str, Any]) -> None:
    plan = sdk(daemon_address(daemon), "plan", daemon.spec(**case["fields"]))
    assert sorted(violation.field for violation in plan.violations) == case.get("violations", [])
    resolved = json_format.MessageToDict(plan.proto.resolved)
    for path, value in case.get("resolved", {}).items():
        found: Any = resolved
        for name in path.split("."):
            found = found[name]
        assert found == value, path


@cases("errors")
def test_errors(daemon: Daemon, sdk: Sdk, case: dict[str, Any]) -> None:
    address, job = daemon_address(daemon), case.get("job")
    match case["call"]:
        case "submit_again":
            spec = daemon.spec(hold=True)
            key = sdk(address, "submit", spec).id
            sdk(address, "submit", spec, request_id=key)
            spec.priority = 1
            call: tuple[str, list[Any], dict[str, Any]] = "submit", [spec], {"request_id": key}
        case "submit_wrong":
            call = "submit", [daemon.spec(priority=1000)], {}
        case "delete_artifact":
            call = "delete_artifact", [job, "output"], {}
        case "generate":
            call = "generate", [job, [("user", "Hello.")]], {}
        case "watch_jobs":
            call = "watch_jobs", [], {"cursor": job}
        case name:
            call = name, [job], {}
    with pytest.raises(getattr(ftclient, case["kind"])) as error:
        sdk(address, call[0], *call[1], **call[2])
    assert (error.value.reason, error.value.code) == (case["reason"], case["code"])


@cases("streams")
def test_streams(cutting: FakeDaemon, sdk: Sdk, case: dict[str, Any]) -> None:
    job = finished_job(cutting)
    cutting.cuts.extend(case["cuts"])
    cutting.cut_code = grpc.StatusCode[case["code"]]
    wanted = {name: case[name] for name in ("after_seq", "tail") if name in case}
    assert [record.seq for record in sdk(cutting.address, case["stream"], job, **wanted)] == case["seqs"]


@cases("json")
def test_json(case: dict[str, Any]) -> None:
    message = json_format.ParseDict(case["read"], MESSAGES[case["message"]]())
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == case["written"]


def daemon_address(daemon: Daemon) -> str:
    return f"unix:{daemon.socket}"
