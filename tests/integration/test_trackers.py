"""Trackers: what real ones are told of a job, and that one which hangs, refuses or dies never reaches the job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.v1 import job_pb2, tracker_pb2

VALUE = "a-key-that-nobody-may-see-0123456789abcdef0123"


class Server(ThreadingHTTPServer):
    """An MLflow server as far as a run needs one, or one that misbehaves: `manner` is good, refuse, hang or die."""

    daemon_threads = True

    def __init__(self, manner: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manner = manner
        self.metrics: list[dict[str, Any]] = []
        self.params: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.ended = ""
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """What MLflow's REST interface answers; None: there is no such thing."""
        match path.rpartition("/mlflow/")[2]:
            case "experiments/get-by-name":
                return None
            case "experiments/create":
                return {"experiment_id": "7"}
            case "runs/search":
                return {}
            case "runs/create" | "runs/get":
                info = {"run_id": "run", "run_uuid": "run", "experiment_id": "7", "status": "RUNNING", "start_time": 1}
                return {"run": {"info": info, "data": {}}}
            case "runs/log-batch":
                self.metrics += body.get("metrics", [])
                self.params |= {each["key"]: each["value"] for each in body.get("params", [])}
                return {}
            case "runs/update":
                self.ended = body["status"]
                return {"run_info": {"run_id": "run", "run_uuid": "run", "experiment_id": "7", "status": self.ended}}
        return None


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}"))

    def _answer(self, body: dict[str, Any]) -> None:
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.server.manner == "hang":
            self.server.released.wait(60)
        if self.server.manner in ("die", "hang"):
            self.connection.close()
            return
        found = self.server.answer(self.path.partition("?")[0], body)
        if self.server.manner == "refuse":
            self._send(403, {"error_code": "PERMISSION_DENIED", "message": f"no: {self.headers['Authorization']}"})
        elif found is None:
            self._send(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"})
        else:
            self._send(200, found)

    def _send(self, code: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("trackers")
    secrets = root / "secrets"
    secrets.mkdir(mode=0o700)
    (secrets / "mlflow").write_text(f"{VALUE}\n")
    (secrets / "mlflow").chmod(0o600)
    (secrets / "open").write_text(VALUE)
    (secrets / "open").chmod(0o644)
    security = {"trackers": ["tensorboard", "mlflow", "wandb", "trackio"], "secrets": str(secrets)}
    with Daemon(root, security=security) as daemon:
        yield daemon


def server(manner: str) -> Server:
    return Server(manner)


def status(daemon: Daemon, job: str, name: str) -> tracker_pb2.TrackerStatus:
    return next((each for each in daemon.get(job).trackers if each.name == name), tracker_pb2.TrackerStatus())


def until(daemon: Daemon, job: str, name: str, state: str) -> tracker_pb2.TrackerStatus:
    number = tracker_pb2.TrackerState.Value(f"TRACKER_STATE_{state}")
    eventually(lambda: status(daemon, job, name).state == number, 60)
    return status(daemon, job, name)


def mlflow(at: Server, secret: str = "") -> dict[str, Any]:
    return {"mlflow": {"tracking_uri": at.address, **({"token_secret": secret} if secret else {})}}


def test_an_mlflow_server_is_told_every_step_and_the_end(daemon: Daemon) -> None:
    there = server("good")
    job = daemon.submit({"steps": 20}, trackers=[mlflow(there, "mlflow")])
    daemon.wait(job, "SUCCEEDED")
    done = until(daemon, job, "mlflow", "DONE")
    losses = [each for each in there.metrics if each["key"] == "train/loss"]
    assert [int(each["step"]) for each in losses] == list(range(1, 21))
    assert there.params["data.max_length"] == "64"
    assert there.ended == "FINISHED"
    assert there.tokens == {f"Bearer {VALUE}"}
    assert done.message == f"{there.address}/#/experiments/7/runs/run"
    assert done.seq == daemon.get(job).progress.last_seq


def test_tensorboard_has_event_files_in_the_run_directory(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    # Trainings in this process keep trackers out of it.
    for name in [name for name, module in sys.modules.items() if name == "tensorboard" and module is None]:
        monkeypatch.delitem(sys.modules, name)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    job = daemon.submit({"steps": 12}, trackers=[{"tensorboard": {}}])
    daemon.wait(job, "SUCCEEDED")
    place = until(daemon, job, "tensorboard", "DONE").message
    assert Path(place).is_relative_to(daemon.get(job).run_directory)
    events = EventAccumulator(place, size_guidance={"tensors": 0})
    events.Reload()
    assert [each.step for each in events.Tensors("train/loss")] == list(range(1, 13))


@pytest.mark.parametrize("manner", ["refuse", "hang", "die"])
def test_a_tracker_that_fails_neither_slows_nor_fails_a_job(daemon: Daemon, manner: str) -> None:
    there = server(manner)
    job = daemon.submit({"steps": 200}, trackers=[mlflow(there, "mlflow")])
    assert daemon.wait(job, "SUCCEEDED", seconds=20).state == job_pb2.JOB_STATE_SUCCEEDED
    there.released.set()
    failed = until(daemon, job, "mlflow", "FAILED")
    assert failed.message
    assert VALUE not in failed.message
    assert VALUE not in daemon.log.read_text()


def test_trackio_has_a_row_for_each_step(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 9}, project="vision", trackers=[{"trackio": {}}])
    daemon.wait(job, "SUCCEEDED")
    place = Path(until(daemon, job, "trackio", "DONE").message)
    with contextlib.closing(sqlite3.connect(place / "vision.db")) as table:
        rows = table.execute("select step, metrics from metrics order by step").fetchall()
    assert [step for step, _ in rows] == list(range(1, 10))
    assert "train/loss" in json.loads(rows[0][1])


def test_wandb_offline_leaves_a_run_to_be_sent_later(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 9}, trackers=[{"wandb": {"offline": True}}])
    daemon.wait(job, "SUCCEEDED")
    (file,) = Path(until(daemon, job, "wandb", "DONE").message).glob(f"offline-run-*/run-{job}.wandb")
    assert file.read_bytes().count(b"train/loss") >= 9


def test_wandb_that_refuses_the_key_never_shows_it(daemon: Daemon) -> None:
    there = server("refuse")
    wandb = {"base_url": there.address, "api_key_secret": "mlflow"}
    job = daemon.submit({"steps": 200}, trackers=[{"wandb": wandb}])
    daemon.wait(job, "SUCCEEDED", seconds=20)
    assert VALUE not in until(daemon, job, "wandb", "FAILED").message
    assert VALUE not in daemon.log.read_text()


def test_a_follower_that_is_killed_is_started_again(daemon: Daemon) -> None:
    there = server("good")
    job = daemon.submit({"steps": 200, "step_seconds": 0.02}, trackers=[mlflow(there)])
    eventually(lambda: any(each["step"] for each in there.metrics), 60)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and follows(folder, job):
            os.kill(int(folder.name), signal.SIGKILL)
    daemon.wait(job, "SUCCEEDED")
    until(daemon, job, "mlflow", "DONE")
    steps = {int(each["step"]) for each in there.metrics if each["key"] == "train/loss"}
    assert steps == set(range(1, 201))


def follows(folder: Path, job: str) -> bool:
    try:
        return b"fttrack" in (folder / "cmdline").read_bytes() and job in str((folder / "cwd").readlink())
    except OSError:
        return False


@pytest.mark.parametrize(
    ("tracker", "field", "why"),
    [
        ({}, "trackers[0]", "names no tracker"),
        ({"wandb": {}}, "trackers[0].wandb.api_key_secret", "is missing"),
        ({"wandb": {"offline": True, "api_key_secret": "mlflow"}}, "trackers[0].wandb.api_key_secret", "send nothing"),
        ({"mlflow": {}}, "trackers[0].mlflow.tracking_uri", "is missing"),
        ({"mlflow": {"tracking_uri": "ftp://x"}}, "trackers[0].mlflow.tracking_uri", "http or https"),
        ({"mlflow": {"tracking_uri": "http://a:b@x"}}, "trackers[0].mlflow.tracking_uri", "without a password"),
        (
            {"mlflow": {"tracking_uri": "http://x", "token_secret": "nobody"}},
            "trackers[0].mlflow.token_secret",
            "does not have",
        ),
        ({"mlflow": {"tracking_uri": "http://x", "token_secret": "open"}}, "trackers[0].mlflow.token_secret", "chmod"),
        ({"tensorboard": {"directory": "/etc/here"}}, "trackers[0].tensorboard.directory", "outside the folders"),
    ],
)
def test_a_tracker_that_cannot_be_is_refused(daemon: Daemon, tracker: dict[str, Any], field: str, why: str) -> None:
    fields: list[str] = []
    _, _, message = refusal(lambda: daemon.submit(trackers=[tracker]), fields)
    assert field in fields
    assert why in message


def test_a_tracker_that_the_host_does_not_allow_is_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path) as plain:
        _, _, message = refusal(lambda: plain.submit(trackers=[{"wandb": {"offline": True}}]))
        assert "[security] trackers" in message
