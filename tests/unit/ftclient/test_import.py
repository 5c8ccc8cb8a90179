from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import ftclient


def modules_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    )


def test_importing_it_loads_nothing_of_weight() -> None:
    assert not modules_after("import ftclient") & {"grpc", "google.protobuf", "typing", "rich", "typer", "ruamel.yaml"}


def test_using_it_loads_grpc_and_protobuf_only() -> None:
    loaded = modules_after("from ftclient import Client; Client()")
    assert {"grpc", "google.protobuf"} <= loaded
    assert not loaded & {"rich", "typer", "ruamel.yaml", "torch", "numpy", "ftd", "fttrain", "ftsched"}


def test_everything_it_offers_is_there() -> None:
    for name in dir(ftclient):
        getattr(ftclient, name)


def test_the_version_is_the_distribution_s() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert ftclient.__version__ == project["version"]
