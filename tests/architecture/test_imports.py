"""The import rules of pyproject.toml bite: a copy of the code with one bad import planted breaks exactly that rule."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("proto/gen/python", "scheduler", "daemon", "clients/python")

PLANTED = [
    ("daemon, trainers and client are strangers", "daemon/ftd/job.py", "import fttrain"),
    ("daemon, trainers and client are strangers", "clients/python/ftclient/__init__.py", "import ftd.spec"),
    ("the scheduler is pure", "scheduler/ftsched/__init__.py", "import time"),
    ("the scheduler is pure", "scheduler/ftsched/__init__.py", "import ftd.records"),
    ("the scheduler is pure", "scheduler/ftsched/plan.py", "import random"),
    ("the scheduler is pure", "scheduler/ftsched/simulate/engine.py", "import time"),
    ("no cycles", "scheduler/ftsched/plan.py", "import ftsched.simulate.ours"),
    ("only fttrain knows torch", "daemon/ftd/job.py", "import torch"),
    ("the keeper is light", "daemon/fttrain/keeper.py", "import transformers"),
    ("ftctl speaks through ftclient", "clients/python/ftctl/__init__.py", "import ftd.spec"),
    ("the SDK is small", "clients/python/ftclient/__init__.py", "import rich"),
    ("messages stay at the edge of the daemon", "daemon/ftd/job.py", "import finetuned.v1.job_pb2"),
    ("the daemon's layers", "daemon/ftd/job.py", "import ftd.launch"),
    ("the domain is pure", "daemon/ftd/job.py", "import asyncio"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(root / s) for s in SOURCES), "COLUMNS": "200"}
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("contract", "module", "line"), PLANTED, ids=[f"{line} in {m}" for _, m, line in PLANTED])
def test_a_planted_import_breaks_its_rule(contract: str, module: str, line: str, copy: Path) -> None:
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint(copy)
    assert result.returncode == 1, result.stderr
    assert f"{contract} BROKEN" in result.stdout


def test_the_copy_as_it_is_keeps_all_rules(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout
