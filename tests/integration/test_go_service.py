"""The Go service in examples/ is built as it stands there, and asked over HTTP; the daemon behind it is a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.support.daemon import Daemon

from finetuned.v1 import job_pb2

SERVICE = Path(__file__).parents[2] / "examples" / "go-service"
# `make` says which Go is new enough.
GO = os.environ.get("GO") or shutil.which("go")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="module")
def address(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service listens."""
    if GO is None:
        pytest.skip("there is no Go here; `make test` brings one")
    program = tmp_path_factory.mktemp("service") / "service"
    # What was built for the tests of the SDK is not built again.
    race = ["-race"] if shutil.which("gcc") else []
    subprocess.run([GO, "build", *race, "-o", str(program), "."], cwd=SERVICE, check=True)
    environment = os.environ | {"FTD_ADDRESS": f"unix:{daemon.socket}"}
    with subprocess.Popen([program, "localhost:0"], env=environment, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        yield service.stdout.readline().removeprefix("listening at ").strip()
        service.kill()


def ask(address: str, path: str, spec: job_pb2.JobSpec | None = None, key: str = "") -> tuple[int, str]:
    """The status and the body of an answer."""
    body = None if spec is None else json_format.MessageToJson(spec)
    with closing(HTTPConnection(address, timeout=60)) as service:
        service.request("GET" if body is None else "POST", path, body, {"Idempotency-Key": key} if key else {})
        answer = service.getresponse()
        return answer.status, answer.read().decode()


def job_in(answer: tuple[int, str]) -> Any:
    assert answer[0] == HTTPStatus.OK, answer
    return json.loads(answer[1])


def test_a_training_by_http(daemon: Daemon, address: str) -> None:
    spec = daemon.spec()
    first, second = (job_in(ask(address, "/trainings", spec, "order-17")) for _ in range(2))
    assert first["id"] == second["id"]
    assert job_in(ask(address, f"/trainings/{first['id']}"))["state"] == "JOB_STATE_SUCCEEDED"


def test_a_training_that_fails_is_an_answer(daemon: Daemon, address: str) -> None:
    job = job_in(ask(address, "/trainings", daemon.spec({"fail_at": 1})))["id"]
    assert job_in(ask(address, f"/trainings/{job}"))["state"] == "JOB_STATE_FAILED"


def test_what_is_refused_has_a_status_of_its_own(daemon: Daemon, address: str) -> None:
    status, text = ask(address, "/trainings", daemon.spec(priority=1000))
    assert (status, "priority" in text) == (HTTPStatus.BAD_REQUEST, True)
    assert ask(address, "/trainings/nothing-like-it")[0] == HTTPStatus.NOT_FOUND
