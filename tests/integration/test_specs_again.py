"""A job's spec taken out of one real daemon and given to it again: written out, cloned, and followed by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.daemon import Daemon

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("again")) as running:
        yield running


@pytest.fixture
def ftctl(daemon: Daemon, tmp_path: Path) -> Run:
    def run(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name("ftctl"))
        environment = os.environ | {"FTD_ADDRESS": f"unix:{daemon.socket}", "HOME": str(tmp_path)}
        return subprocess.run(
            [program, *args], input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_a_written_spec_makes_the_same_job(daemon: Daemon, ftctl: Run) -> None:
    first = daemon.submit({"steps": 2})
    daemon.wait(first, "SUCCEEDED")
    written = ftctl("describe", first, "-o", "yaml")
    again = ftctl("submit", "-f", "-", "--wait", "-q", stdin=written.stdout)
    assert again.returncode == 0, again.stderr
    second = again.stdout.strip()
    assert second != first
    assert daemon.get(second).spec == daemon.get(first).spec
    assert daemon.get(second).resolved == daemon.get(first).resolved


def test_a_clone_differs_in_what_was_set(daemon: Daemon, ftctl: Run) -> None:
    first = daemon.submit({"steps": 2})
    clone = ftctl("clone", first, "--set", "seed=7", "--name", "other", "--wait", "-q").stdout.strip()
    changed = daemon.get(clone)
    assert (changed.name, changed.resolved.seed) == ("other", 7)
    expected = daemon.get(first).spec
    expected.name, expected.training.seed = "other", 7
    assert changed.spec == expected


def test_a_job_is_followed_to_its_end_as_lines_of_json(daemon: Daemon, ftctl: Run) -> None:
    job = daemon.submit({"steps": 3})
    followed = ftctl("get", "job", job, "-w", "-o", "json")
    states = [json.loads(line)["state"] for line in followed.stdout.splitlines()]
    assert states[-1] == "JOB_STATE_SUCCEEDED"
    assert followed.returncode == 0


def test_a_problem_of_the_daemon_is_told_of_a_clone_too(daemon: Daemon, ftctl: Run) -> None:
    job = daemon.submit({"steps": 1})
    refused = ftctl("clone", job, "--set", "model.path=/etc/none")
    assert refused.returncode == 1
    assert "model.path: " in refused.stderr
    assert "then try again" in refused.stderr
