"""`make sdk-matrix`: the SDK with the lowest and the newest grpcio and protobuf we allow, on each Python there is here.

In environments of their own, which have the base install and what the SDK's tests need. Needs a registry, and minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
UV = os.environ.get("UV", "uv")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = ("lowest-direct", "highest")
# Of the tests, as of their group in pyproject.toml, and the status codec of the fake daemon.
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "grpcio-status", "cryptography", "pandas")
TESTS = "tests/unit/ftclient"


def main() -> int:
    """Tries every pair; says of each what it had, and exits with 1 if one failed."""
    results = [_try(python, resolution) for python in PYTHONS if _is_here(python) for resolution in RESOLUTIONS]
    assert results, f"none of Python {', '.join(PYTHONS)} is here"
    return 0 if all(results) else 1


def _is_here(python: str) -> bool:
    found = subprocess.run([UV, "python", "find", "--no-project", python], capture_output=True, check=False)
    return found.returncode == 0


def _try(python: str, resolution: str) -> bool:
    """Whether the SDK's tests pass with these versions."""
    folder = Path(tempfile.mkdtemp(prefix="sdk-matrix-"))
    try:
        environment = {**os.environ, "VIRTUAL_ENV": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([UV, "venv", "--quiet", "--clear", "--python", python, folder], check=True)
        _install(environment, str(ROOT), "--resolution", resolution)
        versions = _versions(environment)
        # What the tests need is the newest that goes with them, whatever that is.
        kept = folder / "versions.txt"
        kept.write_text("\n".join(versions))
        _install(environment, *TOOLS, "--constraint", str(kept))
        tried = subprocess.run(
            [folder / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(folder)
    told = ", ".join(line for line in versions if line.startswith(("grpcio==", "protobuf==")))
    print(f"python {python}, {told}: {(tried.stdout.strip().splitlines() or [tried.stderr])[-1]}")
    if tried.returncode:
        print(tried.stdout)
    return tried.returncode == 0


def _install(environment: dict[str, str], *what: str) -> None:
    subprocess.run([UV, "pip", "install", "--quiet", *what], check=True, env=environment)


def _versions(environment: dict[str, str]) -> list[str]:
    """What is installed but for our own, as requirements."""
    listed = subprocess.run([UV, "pip", "freeze"], env=environment, capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if "==" in line]


if __name__ == "__main__":
    sys.exit(main())
