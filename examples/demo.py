"""`make demo`: the whole tool on this machine, in about three minutes. Read it from top to bottom.

It makes a small real model, starts a daemon of its own, hands it examples/demo.yaml as any user would, watches the
training, and asks the base model and the trained adapter the same questions. Whatever happens, and at Ctrl-C too, the
job is cancelled and the daemon stopped before it ends: nothing is left running.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STATE = ROOT / "build" / "demo"
QUESTIONS = ["What is finetuned?", "What is a keeper?"]
# Seconds the daemon may take to start, and a cancelled job to end.
START, END = 30, 60
CONFIG = """\
# The daemon of the demo: everything it keeps lies here.
[daemon]
state_directory = "{state}"
socket = "{socket}"

[paths]
model_roots = ["{model}"]
data_roots = ["{examples}"]
output_roots = ["{state}"]

[devices]
inventory = "cpu"
"""

console = Console(highlight=False)


def main() -> int:
    """Runs the demo; the exit status is that of a command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console.print(
        Panel(
            "A small language model learns to answer questions about [b]finetuned[/b], on this machine.", expand=False
        )
    )
    try:
        with tempfile.TemporaryDirectory(prefix="ftd-demo-") as runtime:
            return demo(Path(runtime) / "ftd.sock")
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left running.")
        return 130
    except DemoFailed as failure:
        console.print(f"\n[red]{failure}[/red]")
        return 1


class DemoFailed(Exception):
    """Why the demo could not go on, for who started it."""


def demo(socket: Path) -> int:
    """The walk: model, daemon, job, answers. A unix socket needs a short path, so it lies outside of the repository."""
    step("the model: SmolLM2-135M-Instruct, made once")
    made = subprocess.run([sys.executable, "examples/make_model.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if made.returncode != 0:
        raise DemoFailed("the model could not be made; what went wrong stands above")
    model = Path(made.stdout.strip())
    console.print(f"  {model}")

    step("a daemon of its own")
    with daemon(model, socket):
        step("the job")
        job = ftctl("submit", "-f", "examples/demo.yaml", "--set", f"model.path={model}", "-q").strip()
        console.print(f"  queued as [b]{job}[/b]; from here on it would survive a restart of the daemon\n")
        watched = subprocess.run([BIN / "ftctl", "watch", "--exit-status", job], cwd=ROOT)
        if watched.returncode != 0:
            raise DemoFailed(f"job {job} did not succeed; its log: {STATE}/runs/{job}/logs.journal")
        adapter = Path(json.loads(ftctl("get", "job", job, "-o", "json", say=False))["output_path"])

    step("the same questions, to the model as it was and with the adapter")
    show(answers(model, adapter))
    say_goodbye(model, adapter)
    return 0


@contextlib.contextmanager
def daemon(model: Path, socket: Path) -> Iterator[None]:
    """A running ftd; at the end its live jobs are cancelled, for their processes outlive a daemon on purpose."""
    STATE.mkdir(parents=True, exist_ok=True)
    config = STATE / "ftd.toml"
    config.write_text(CONFIG.format(state=STATE, socket=socket, model=model, examples=ROOT / "examples"))
    os.environ["FTD_ADDRESS"] = f"unix:{socket}"
    command = [BIN / "ftd", "--config", config]
    console.print(f"  [dim]$ ftd --config {config.relative_to(ROOT)} &[/dim]")
    with (STATE / "ftd.log").open("w") as log:
        # Its own session: Ctrl-C reaches this script alone, which then ends things in their order.
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(socket, process)
        yield
    finally:
        with uninterrupted():
            cancel_live_jobs()
            process.terminate()
            process.wait()


def wait_for(socket: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the daemon listens. Raises DemoFailed if it ends or takes too long."""
    deadline = time.monotonic() + START
    while not socket.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoFailed(f"the daemon did not start; its log: {STATE}/ftd.log")
        time.sleep(0.05)


def cancel_live_jobs() -> None:
    """Cancels what has not ended and waits until its processes are gone."""
    states = [f"--state={state}" for state in ("preparing", "queued", "starting", "running", "stopping")]
    with contextlib.suppress(subprocess.CalledProcessError):
        live = ftctl("get", "jobs", *states, "-q", say=False).split()
        for job in live:
            ftctl("cancel", job, say=False)
        if live:
            subprocess.run(
                [BIN / "ftctl", "wait", *live, "--timeout", f"{END}s"],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """An impatient second Ctrl-C must not leave processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def ftctl(*arguments: str, say: bool = True) -> str:
    """What the command line prints for a user. Raises CalledProcessError; the reason has been printed by then."""
    if say:
        console.print(f"  [dim]$ ftctl {' '.join(arguments)}[/dim]", soft_wrap=True)
    command = [BIN / "ftctl", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def answers(model: Path, adapter: Path) -> list[dict[str, str]]:
    """Each question with what the base model and the adapter say."""
    command = [sys.executable, "examples/ask.py", "--json", model, adapter, *QUESTIONS]
    with console.status("asking …"):
        asked = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if asked.returncode != 0:
        raise DemoFailed("the models could not be asked; what went wrong stands above")
    found: list[dict[str, str]] = json.loads(asked.stdout)
    return found


def show(found: list[dict[str, str]]) -> None:
    """The answers side by side."""
    table = Table(show_lines=True, expand=True)
    table.add_column("question", style="bold", ratio=2)
    table.add_column("base model", style="red", ratio=4)
    table.add_column("with the adapter", style="green", ratio=4)
    for answer in found:
        table.add_row(answer["question"], answer["base"], answer["tuned"])
    console.print(table)


def say_goodbye(model: Path, adapter: Path) -> None:
    """Where things lie and what to type next."""
    step("what is there now")
    console.print(f"  the adapter, an ordinary PEFT folder   {adapter}", soft_wrap=True)
    console.print(f"  spec, journal, log of the run          {adapter.parent}", soft_wrap=True)
    step("what to type next")
    for command in (
        f'.venv/bin/python examples/ask.py {model} {adapter} "Will a restart of the daemon end my job?"',
        ".venv/bin/ftd &                                    # a daemon of your own",
        ".venv/bin/ftctl submit -f examples/lora.yaml --follow",
    ):
        console.print(f"  {command}", soft_wrap=True, markup=False)


def step(text: str) -> None:
    """A heading."""
    console.print(f"\n[bold cyan]▸[/bold cyan] [bold]{text}[/bold]")


if __name__ == "__main__":
    sys.exit(main())
