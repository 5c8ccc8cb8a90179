"""Specs that come from elsewhere than a file: of a job that there is, to start from; and what their fields mean."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_pb2, job_service_pb2
from ftclient import specfile
from ftctl import starts
from ftd.spec import DeviceKind
from ftd.validate import check
from ftd.wire import read_spec

Matches = Callable[..., None]

SPEC = """\
name: support-v3
labels: {team: cx, "2": "3"}
after: [prep-job]
not_before: 2027-01-31T18:00:00Z
external_id: run-17
trackers:
  - tensorboard: {}
model:
  path: /models/smol
  dtype: bf16
data:
  train:
    - path: /data/a.jsonl
      format: messages
dpo: {beta: 0.3}
qlora:
  lora: {rank: 16, target_modules: [q_proj], rank_pattern: {"k_proj": 4}}
optimizer: {learning_rate: 1e-4}
resources: {memory_bytes: 24GiB}
"""


@pytest.fixture
def spec() -> job_pb2.JobSpec:
    found = specfile.read(SPEC)
    assert not found.problems
    return found.spec


@pytest.fixture
def trained(daemon: FakeDaemon, spec: job_pb2.JobSpec) -> FakeDaemon:
    made = job("SUCCEEDED", step=10)
    made.spec.CopyFrom(spec)
    daemon.jobs[made.id] = made
    return daemon


def submitted(daemon: FakeDaemon) -> job_pb2.JobSpec:
    request = daemon.requests[-1]
    assert isinstance(request, job_service_pb2.CreateJobRequest)
    return request.spec


def test_a_described_spec_submits_again(trained: FakeDaemon, ftctl: Run, spec: job_pb2.JobSpec) -> None:
    described = ftctl("describe", "support-v3", "-o", "yaml")
    again = specfile.read(described.out)
    assert not again.problems
    assert again.spec == spec


def test_a_spec_written_out(trained: FakeDaemon, matches: Matches) -> None:
    matches("describe-yaml", "describe", "support-v3", "-o", "yaml")


def test_a_clone_is_the_same_but_for_what_is_of_one_job(trained: FakeDaemon, ftctl: Run, spec: job_pb2.JobSpec) -> None:
    next(iter(trained.jobs.values())).spec.hold = True
    assert ftctl("clone", "@last", "-q").out == "job0000001\n"
    for once in ("not_before", "external_id", "hold"):
        spec.ClearField(once)
    assert submitted(trained) == spec


def test_a_clone_is_changed(trained: FakeDaemon, matches: Matches) -> None:
    changes = ["--set", "lora.rank=8", "--set", "seed=7", "--name", "support-v4", "--label", "team=nlp", "--hold"]
    matches("clone", "clone", "support-v3", *changes)
    clone = submitted(trained)
    assert (clone.name, clone.labels["team"], clone.hold, clone.training.seed) == ("support-v4", "nlp", True, 7)
    assert clone.training.WhichOneof("method") == "lora"


def test_a_clone_that_cannot_be(trained: FakeDaemon, matches: Matches) -> None:
    matches("clone-problems", "clone", "support-v3", "--set", "qlora.lora.rnak=8")
    matches("clone-unknown", "clone", "nobody")


@pytest.mark.parametrize("kind", starts.KINDS)
def test_a_start_is_valid(kind: str, ftctl: Run, tmp_path: Path) -> None:
    printed = ftctl("init", kind)
    read = specfile.read(printed.out, base=tmp_path)
    assert not read.problems
    assert not check(read_spec(read.spec), DeviceKind.GPU)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("init", ["init"]),
        ("init-grpo", ["init", "grpo"]),
        ("init-unknown", ["init", "lra"]),
        ("explain-field", ["explain", "training.model.dtype"]),
        ("explain-mapping", ["explain", "vera"]),
        ("explain-unknown", ["explain", "lora.rnak"]),
    ],
)
def test_what_a_spec_may_say(daemon: FakeDaemon, matches: Matches, name: str, args: list[str]) -> None:
    matches(name, *args)


@pytest.mark.parametrize("width", [80, 120])
def test_a_field_on_a_terminal(matches: Matches, on_terminal: Callable[[int], None], width: int) -> None:
    on_terminal(width)
    matches(f"explain-mapping-{width}", "explain", "vera")


def test_without_a_field_the_first_ones_are_told(ftctl: Run) -> None:
    told = {line.split()[0] for line in ftctl("explain").out.splitlines()}
    assert {"name", "labels", "model", "data", "lora", "dpo"} <= told
    assert not {path for path in told if "." in path}


def test_a_field_is_explained_without_a_daemon(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.stop()
    assert ftctl("explain", "lora.rank").out.startswith("Field:   lora.rank\n")


def test_a_job_comes_before_a_field_of_its_name(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.jobs["lora.rank"] = job(name="lora.rank")
    assert "Field" not in ftctl("explain", "lora.rank").out


def test_the_schema(ftctl: Run) -> None:
    assert "data.train[0].path" in ftctl("schema").out
    assert json.loads(ftctl("schema", "--json-schema").out)["properties"]["lora"]
