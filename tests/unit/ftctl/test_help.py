"""Every command is in one group and has examples, which it accepts; what a shell is told when it completes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job
from tests.unit.ftctl.conftest import Run
from typer.main import get_command

from ftctl import guide
from ftctl.app import app

ROOT: Any = get_command(app)
REPOSITORY = Path(__file__).parents[3]


def commands(group: Any = ROOT, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        elif not command.hidden:
            yield f"{before}{name}", command


def test_every_command_is_in_one_group() -> None:
    named = [name for names in guide.GROUPS.values() for name in names]
    assert sorted(named) == sorted(name for name, command in ROOT.commands.items() if not command.hidden)


def test_every_command_has_examples_and_no_other_has() -> None:
    assert sorted(guide.EXAMPLES) == sorted(name for name, _ in commands())


def calls(line: str) -> Iterator[list[str]]:
    """The words of each `ftctl` in a line of shell."""
    words = shlex.split(line.replace("<(", " ").replace(")", " "), comments=True)
    while "ftctl" in words:
        words = words[words.index("ftctl") + 1 :]
        end = next((place for place, word in enumerate(words) if word in ("|", ">", "<", "&&")), len(words))
        yield words[:end]


def of_pages() -> Iterator[str]:
    """The lines of shell with `ftctl` in the pages that tell of it."""
    for page in (REPOSITORY / "README.md", REPOSITORY / "clients" / "README.md"):
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
            yield from (line.replace(".venv/bin/", "") for line in block.splitlines() if "ftctl " in line)


@pytest.mark.parametrize("line", [*(line for lines in guide.EXAMPLES.values() for line in lines), *of_pages()])
def test_an_example_is_accepted(line: str) -> None:
    found = list(calls(line))
    assert found
    for words in found:
        before = ROOT.make_context("ftctl", words)
        name, *rest = [*before._protected_args, *before.args]
        command = ROOT.commands[name]
        while hasattr(command, "commands"):
            name, *rest = rest
            command = command.commands[name]
        # Parses, and refuses what the command does not know; runs nothing.
        command.make_context(name, rest)


@pytest.mark.parametrize(("same", "command"), guide.SAME_AS.items())
def test_names_that_other_tools_have(same: str, command: str, ftctl: Run) -> None:
    assert ftctl(same, "--help").out.replace(f"ftctl {same}", f"ftctl {command}") == ftctl(command, "--help").out


def test_help_lists_the_commands_by_group(ftctl: Run) -> None:
    shown = ftctl("--help").out
    assert [title for title in guide.GROUPS if f"\n{title}:\n" in shown] == list(guide.GROUPS)
    lines = shown.partition("Specs:\n")[2].splitlines()
    named = [line for line in lines if line.startswith("  ")]
    assert len(named) == sum(map(len, guide.GROUPS.values())), "one line each"


def completed(line: str, shell: str = "bash", **environment: str) -> list[str]:
    words = {"bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}}
    words["fish"] = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked = {"_FTCTL_COMPLETE": f"complete_{shell}", **words[shell], **environment}
    program = [str(Path(sys.executable).with_name("ftctl"))]
    done = subprocess.run(program, env=os.environ | asked, check=True, capture_output=True, text=True)
    return [entry.split("\t")[0] for entry in done.stdout.split("\n") if entry]


def test_commands_and_options_are_completed() -> None:
    assert completed("ftctl can") == ["cancel"]
    assert completed("ftctl get --sta") == ["--state"]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_jobs_are_completed(daemon: FakeDaemon, shell: str) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    assert completed("ftctl cancel ", shell, FTD_ADDRESS=daemon.address) == ["@last", "k7m2p9x4qd", "support-v3"]
    assert completed("ftctl cancel sup", shell, FTD_ADDRESS=daemon.address) == ["support-v3"]


def test_a_name_of_two_jobs_is_not_completed(daemon: FakeDaemon) -> None:
    daemon.jobs |= {name: job(id=name) for name in ("k7m2p9x4qd", "k8abcdefgh")}
    assert completed("ftctl watch ", FTD_ADDRESS=daemon.address) == ["@last", "k7m2p9x4qd", "k8abcdefgh"]


def test_the_address_on_the_line_is_asked(daemon: FakeDaemon) -> None:
    daemon.jobs["k7m2p9x4qd"] = job()
    assert completed(f"ftctl --address {daemon.address} watch k") == ["k7m2p9x4qd"]


def test_without_a_daemon_no_job_is_completed() -> None:
    assert completed("ftctl cancel k", FTD_ADDRESS="unix:/nowhere") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_by_the_name_that_is_answered(shell: str, ftctl: Run) -> None:
    assert f"_FTCTL_COMPLETE=complete_{shell}" in ftctl("completion", shell).out


def test_bash_takes_the_script(ftctl: Run, tmp_path: Path) -> None:
    script = tmp_path / "ftctl.bash"
    script.write_text(ftctl("completion", "bash").out)
    subprocess.run(["bash", "-c", f"source {script} && complete -p ftctl"], check=True, capture_output=True)
