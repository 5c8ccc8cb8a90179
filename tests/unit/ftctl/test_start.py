"""What `ftctl` loads before it knows what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest


def modules_after(*args: str) -> set[str]:
    program = (
        f"import atexit, sys; sys.argv = ['ftctl', *{args!r}];"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from ftctl.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("args", [["--help"], ["submit", "--help"]])
def test_help_needs_no_grpc(args: list[str]) -> None:
    assert not modules_after(*args) & {"grpc", "google.protobuf", "ruamel.yaml", "rich.live", "textual", "tomllib"}


@pytest.mark.parametrize("args", [["version"], ["--version"]])
def test_the_version_needs_nothing(args: list[str]) -> None:
    assert not modules_after(*args) & {"grpc", "google.protobuf", "typer", "rich", "typing"}
