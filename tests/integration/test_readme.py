"""What the README shows under "Using it" is typed here, word for word, against a real daemon with the fake trainer."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.daemon import Daemon

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("## Using it")[1].split("\n## ")[0]
SHELL, PYTHON, GOLANG = re.findall(r"```(?:sh|python|go)\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in SHELL.splitlines() if line.startswith(".venv/bin/ftctl")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's home with a clone in it, the model that the examples name, and a daemon."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(ROOT / "examples", home / "examples")
    with Daemon(home) as daemon:
        model = shutil.copytree(daemon.model, home / ".cache/finetuned/models/SmolLM2-135M-Instruct")
        (model / "chat_template.jinja").write_text("{{ messages }}")
        (home / "address").write_text(f"unix:{daemon.socket}")
        yield home


# `make` says which Go is new enough.
GO = os.environ.get("GO") or shutil.which("go")


def run(home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": str(home), "FTD_ADDRESS": (home / "address").read_text(), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_shell_commands_do_what_they_say(home: Path) -> None:
    assert [command.split()[1] for command in COMMANDS] == [
        "plan",
        "submit",
        "queue",
        "gpus",
        "logs",
        "metrics",
        "cancel",
    ]
    for command in COMMANDS:
        program, *arguments = command.split()
        done = run(home, str(Path(sys.executable).parent / Path(program).name), *arguments)
        # By then the job has ended, and a cancel says so.
        expected = 6 if arguments[0] == "cancel" else 0
        assert done.returncode == expected, f"{command}: {done.stdout}{done.stderr}"


def test_the_python_lines_print_events_and_the_output(home: Path) -> None:
    done = run(home, sys.executable, "-c", PYTHON)
    assert done.returncode == 0, done.stderr
    *events, output = done.stdout.splitlines()
    assert len(events) > 5
    assert output.endswith("/output")


@pytest.mark.skipif(GO is None, reason="there is no Go here; `make test` brings one")
def test_the_go_lines_print_events_and_the_output(home: Path, tmp_path: Path) -> None:
    for name in ("go.mod", "go.sum"):
        shutil.copy(ROOT / "examples" / "go-service" / name, tmp_path)
    (tmp_path / "main.go").write_text(GOLANG)
    module = (tmp_path / "go.mod").read_text()
    (tmp_path / "go.mod").write_text(module.replace("../../clients/go", str(ROOT / "clients" / "go")))
    # What was built for the tests of the SDK is not built again.
    race = ["-race"] if shutil.which("gcc") else []
    subprocess.run([str(GO), "build", *race, "-o", "program", "."], cwd=tmp_path, check=True)
    model, rows = (
        home / ".cache/finetuned/models/SmolLM2-135M-Instruct",
        home / "examples/data/finetuned-qa.alpaca.jsonl",
    )
    done = run(home, str(tmp_path / "program"), str(model), str(rows))
    assert done.returncode == 0, done.stderr
    *events, output = done.stdout.splitlines()
    assert len(events) > 5
    assert output.endswith("/output")
