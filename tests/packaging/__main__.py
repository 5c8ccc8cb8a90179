"""`make dist`: builds the wheel and the sdist, and tries them in empty environments, as a new user would.

What is tried sees only what the wheel brings: environments, home and folder are new, and nothing of the checkout is on
any path. Versions are those of requirements.lock. First the base install, small and without torch; then a daemon that
trains a real model.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "build" / "dist"
UV = os.environ.get("UV", "uv")
# Seconds the daemon may take to start.
START = 60
CONFIG = """\
[daemon]
state_directory = "{home}/state"
socket = "{home}/ftd.sock"

[paths]
model_roots = ["{home}"]
data_roots = ["{home}"]
output_roots = ["{home}"]

[devices]
inventory = "cpu"
"""
SPEC = """\
model: {path: model}
data: {train: [rows.jsonl], max_length: 64}
lora: {rank: 4}
schedule: {max_steps: 3}
"""


def main() -> int:
    """Builds and tries everything; raises CalledProcessError or AssertionError at what does not hold."""
    wheel = build()
    with tempfile.TemporaryDirectory(prefix="ftd-dist-") as folder:
        home = Path(folder)
        try_base(wheel, home)
        try_whole(wheel, home)
    say(f"fine: {wheel.relative_to(ROOT)}")
    return 0


def build() -> Path:
    """The wheel. One made from the sdist has the same files, so the sdist is whole."""
    say("building")
    DIST.mkdir(parents=True, exist_ok=True)
    for old in DIST.iterdir():
        old.unlink()
    uv("build", "--sdist", "--wheel", "--out-dir", DIST, ROOT)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="ftd-dist-") as again:
        uv("build", "--wheel", "--out-dir", again, sdist)
        (other,) = Path(again).glob("*.whl")
        assert names(wheel) == names(other), "the sdist lacks what the wheel needs, or brings more"
    packages = {name.split("/")[0] for name in names(wheel)}
    assert not packages & {"tests", "examples", "daemon", "clients"}, f"the wheel has {packages}"
    say(f"  {wheel.name} {wheel.stat().st_size // 1024} KiB, {sdist.name} {sdist.stat().st_size // 1024} KiB")
    return wheel


def try_base(wheel: Path, home: Path) -> None:
    """The SDK and `ftctl` alone, installed as a tool is."""
    say("the base install")
    tools = home / "tools"
    places = {"UV_TOOL_DIR": tools, "UV_TOOL_BIN_DIR": tools}
    uv("tool", "install", "--constraints", constraints(home), wheel, home=home, **places)
    ftctl, python = tools / "ftctl", tools / "finetuned" / "bin" / "python"
    say("  " + run(home, ftctl, "version").strip().splitlines()[0])
    assert "ftctl" in run(home, ftctl, "--help")
    found = run(
        home, python, "-c", "import importlib.util as u, ftclient; print(u.find_spec('torch'), ftclient.Client)"
    )
    assert found.startswith("None "), "the base install has torch"
    unreachable = subprocess.run([ftctl, "gpus"], cwd=home, env=environment(home), capture_output=True, text=True)
    assert unreachable.returncode == 5, unreachable.stderr
    assert "Traceback" not in unreachable.stderr
    size = sum(file.stat().st_size for file in (tools / "finetuned").rglob("*") if file.is_file())
    say(f"  {size // 2**20} MiB without torch")


def try_whole(wheel: Path, home: Path) -> None:
    """A daemon from the wheel trains a real model, and the command line of the wheel asks it to."""
    say("the daemon and its trainers")
    venv = home / "venv"
    uv("venv", "--python", sys.executable, venv)
    uv("pip", "install", "--constraints", constraints(home), f"{wheel}[daemon,train]", home=home, VIRTUAL_ENV=venv)
    maker = [sys.executable, ROOT / "examples" / "make_model.py", "--nano"]
    made = subprocess.run(maker, check=True, stdout=subprocess.PIPE, text=True)
    shutil.copytree(made.stdout.strip(), home / "model")
    (home / "ftd.toml").write_text(CONFIG.format(home=home))
    (home / "rows.jsonl").write_text('{"instruction": "Name a colour.", "output": "Blue."}\n' * 8)
    (home / "job.yaml").write_text(SPEC)
    daemon = subprocess.Popen(
        [venv / "bin" / "ftd", "--config", home / "ftd.toml"],
        cwd=home,
        env=environment(home),
        stderr=(home / "ftd.log").open("wb"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START
        while not (home / "ftd.sock").exists():
            alive = daemon.poll() is None and time.monotonic() < deadline
            assert alive, (home / "ftd.log").read_text()
            time.sleep(0.05)
        say("  " + run(home, venv / "bin" / "ftctl", "submit", "-f", "job.yaml", "--wait").strip())
    finally:
        daemon.terminate()
        daemon.wait()


def constraints(home: Path) -> Path:
    """The versions of requirements.lock, without its hashes: a wheel of ours has none there."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.rstrip(" \\") for line in lines if line[:1].isalnum()]
    target = home / "constraints.txt"
    target.write_text("\n".join(pins) + "\n")
    return target


def names(wheel: Path) -> set[str]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def environment(home: Path) -> dict[str, str]:
    """Nothing of the checkout, and nobody's settings."""
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "FTD_ADDRESS": f"unix:{home}/ftd.sock", "LANG": "C.UTF-8"}


def run(home: Path, *command: str | Path) -> str:
    """What a command prints, when it succeeds."""
    done = subprocess.run(command, cwd=home, env=environment(home), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def uv(*arguments: str | Path, home: Path = ROOT, **settings: Path) -> None:
    """Runs uv; its own output only if it fails."""
    env = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    env.pop("PYTHONPATH", None)
    done = subprocess.run([UV, "--quiet", *arguments], cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"uv {arguments}: {done.stdout}{done.stderr}"


def say(text: str) -> None:
    """A line of progress."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
