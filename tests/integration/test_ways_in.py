"""The ways into other systems, as examples/ shows them: each runs as it stands there, against a real daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.support.daemon import Daemon, eventually, make_model

from finetuned.v1 import job_service_pb2
from ftclient.specfile import values_of
from ftctl import exits

EXAMPLES = Path(__file__).parents[2] / "examples"
LONG = {"steps": 10_000, "step_seconds": 0.02}
FAILS = {"steps": 5, "fail_at": 2}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


def spec_file(daemon: Daemon, path: Path, script: dict[str, Any], **fields: Any) -> Path:
    """A spec for the fake trainer, as a file. YAML reads JSON."""
    path.write_text(json.dumps(values_of(daemon.spec(script, **fields))))
    return path


def environment(daemon: Daemon, *first: Path, **more: str) -> dict[str, str]:
    """Where `ftctl` is, and what is told of the daemon."""
    path = [*map(str, first), str(Path(sys.executable).parent), os.environ["PATH"]]
    return os.environ | {"PATH": ":".join(path), "FTD_ADDRESS": f"unix:{daemon.socket}"} | more


class Batch:
    """A batch script as Slurm runs it; `scontrol` writes down what it is asked for."""

    def __init__(self, daemon: Daemon, folder: Path, script: dict[str, Any], number: str) -> None:
        self.daemon, self.number = daemon, number
        self.asked = folder / "asked"
        (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {self.asked}\n')
        (folder / "scontrol").chmod(0o755)
        self._environment = environment(daemon, folder, SLURM_JOB_ID=number)
        self._command = [str(EXAMPLES / "slurm" / "train.sbatch"), str(spec_file(daemon, folder / "spec.yaml", script))]
        self._request = job_service_pb2.ListJobsRequest(selector=f"slurm={number}")

    @contextmanager
    def start(self, restarts: int = 0) -> Iterator[subprocess.Popen[bytes]]:
        told = self._environment | {"SLURM_RESTART_COUNT": str(restarts)}
        with subprocess.Popen(["bash", *self._command], env=told, start_new_session=True) as script:
            try:
                yield script
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(script.pid, signal.SIGKILL)

    def job(self) -> str:
        """The training's id, once there is one."""
        eventually(lambda: self.daemon.jobs.ListJobs(self._request).jobs)
        (found,) = self.daemon.jobs.ListJobs(self._request).jobs
        return found.id


def test_a_batch_job_is_queued_again_before_its_time_is_over(daemon: Daemon, tmp_path: Path) -> None:
    batch = Batch(daemon, tmp_path, {"steps": 400, "step_seconds": 0.1}, "41")
    with batch.start() as script:
        job = batch.job()
        daemon.until_step(job, 3)
        script.send_signal(signal.SIGUSR1)
        assert script.wait(60) == 0
    assert batch.asked.read_text() == "requeue 41\n"
    paused = daemon.wait(job, "PAUSED")
    Path(f"{paused.spec.training.data.train[0].path}.fake.json").write_text('{"steps": 400}')
    with batch.start(restarts=1) as script:
        assert script.wait(60) == exits.OK
    assert batch.job() == job
    assert [attempt.resumed_from != "" for attempt in daemon.get(job).attempts] == [False, True]


def test_a_batch_job_that_is_cancelled_cancels_its_training(daemon: Daemon, tmp_path: Path) -> None:
    batch = Batch(daemon, tmp_path, LONG, "42")
    with batch.start() as script:
        daemon.until_step(batch.job(), 5)
        script.terminate()
        assert script.wait(60) == exits.JOB_CANCELLED
    assert daemon.get(batch.job()).attempts[-1].checkpoint != ""


def test_a_batch_job_fails_with_its_training(daemon: Daemon, tmp_path: Path) -> None:
    with Batch(daemon, tmp_path, FAILS, "43").start() as script:
        assert script.wait(60) == exits.JOB_FAILED


def pod(daemon: Daemon, command: list[str], specs: Path, **values: str) -> int:
    """Runs a container's command as its pod would; its exit code."""
    told = [
        re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], word).replace("/specs", str(specs)) for word in command
    ]
    return subprocess.run(told, env=environment(daemon), timeout=120, check=False).returncode


def test_a_kubernetes_job_ends_as_its_training_does(daemon: Daemon, tmp_path: Path) -> None:
    job = YAML(typ="safe").load(EXAMPLES / "kubernetes" / "job.yaml")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    spec_file(daemon, tmp_path / "train.yaml", {"steps": 2})
    assert pod(daemon, container["command"], tmp_path, RUN="uid-1") == exits.OK
    # A pod that takes the place of another one finds the same training.
    assert pod(daemon, container["command"], tmp_path, RUN="uid-1") == exits.OK

    request = job_service_pb2.ListJobsRequest(selector="k8s=uid-1")
    assert len(daemon.jobs.ListJobs(request).jobs) == 1
    spec_file(daemon, tmp_path / "train.yaml", FAILS)
    assert pod(daemon, container["command"], tmp_path, RUN="uid-2") == exits.JOB_FAILED
    final = job["podFailurePolicy"]["rules"][-1]["onExitCodes"]
    assert (final["containerName"], final["values"]) == (
        container["name"],
        [exits.USAGE, exits.AUTH, exits.REFUSED, exits.JOB_FAILED, exits.JOB_CANCELLED],
    )


def test_a_workflow_trains_step_by_step(daemon: Daemon, tmp_path: Path) -> None:
    workflow = YAML(typ="safe").load(EXAMPLES / "kubernetes" / "workflow.yaml")["spec"]
    tune, train = workflow["templates"]
    spec_file(daemon, tmp_path / "sft.yaml", {"steps": 2})
    on_top = json.loads(spec_file(daemon, tmp_path / "dpo.yaml", {"steps": 2}, name="w1-dpo").read_text())
    del on_top["model"]
    (tmp_path / "dpo.yaml").write_text(json.dumps(on_top))
    words = [*train["container"]["command"], *train["container"]["args"]]
    for [step] in tune["steps"]:
        inputs = {f"inputs.parameters.{each['name']}": each["value"] for each in step["arguments"]["parameters"]}
        command = filled(filled(words, inputs), {"workflow.name": "w1", "workflow.uid": "uid-3"})
        assert pod(daemon, command, tmp_path) == exits.OK
    assert [each.job for each in daemon.get("w1-dpo").dependencies] == [daemon.get("w1-sft").id]
    assert train["retryStrategy"]["expression"].endswith(f"== {exits.UNREACHABLE}")


def test_make_trains_a_pipeline_once(daemon: Daemon) -> None:
    for part in ("pipeline", "data"):
        shutil.copytree(EXAMPLES / part, daemon.root / "examples" / part)
    folder = daemon.root / "examples" / "pipeline"
    model = make_model(daemon.root / "chat-model")
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    command = ["make", "-C", str(folder), f"MODEL={model}"]
    # Interrupted in its first step: the training goes on, and make finds it again.
    with subprocess.Popen(command, env=environment(daemon), start_new_session=True) as make:
        request = job_service_pb2.ListJobsRequest(selector="pipeline=1")
        eventually(lambda: daemon.jobs.ListJobs(request).jobs)
        os.killpg(make.pid, signal.SIGINT)
    assert make.returncode != 0
    assert not (folder / "sft.job").exists()
    subprocess.run(command, env=environment(daemon), check=True, timeout=120)
    merged, dpo, sft = daemon.jobs.ListJobs(request).jobs
    assert [each.job for each in (*merged.dependencies, *dpo.dependencies)] == [dpo.id, sft.id]
    assert (folder / "merged.job").read_text() == f"{merged.id}\n"
    # What was changed is made again, and what stands on it.
    with (folder / "dpo.yaml").open("a") as changed:
        changed.write("seed: 7\n")
    subprocess.run(command, env=environment(daemon), check=True, timeout=120)
    assert [each.name for each in daemon.jobs.ListJobs(request).jobs] == ["merged", "dpo", "merged", "dpo", "sft"]


def filled(words: list[str], values: dict[str, str]) -> list[str]:
    """Argo's parameters put in; those that are not known stay."""
    return [re.sub(r"{{([\w.]+)}}", lambda found: values.get(found[1], found[0]), word) for word in words]
