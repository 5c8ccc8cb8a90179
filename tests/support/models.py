"""The small models of the tests, made once per machine: `smol-nano` and the whole SmolLM2 it is cut from.

Use from a conftest: `from tests.support.models import smol_nano`, and name it in `__all__`. The script locks its
folder, so test processes side by side wait for one of them to make the model.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "make_model.py"


@pytest.fixture(scope="session")
def smol_nano() -> Path:
    """Folder of the carved model: four layers, 4096 tokens, 33 MB, a tokenizer with a chat template."""
    return _make("--nano")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """Folder of SmolLM2-135M-Instruct, 269 MB."""
    return _make()


def _make(*options: str) -> Path:
    made = subprocess.run([sys.executable, str(SCRIPT), *options], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip())
