"""One attempt by hand: a real keeper over the fake trainer, and a look at what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, metric_service_pb2

FAKE = Path(__file__).parents[1] / "fakes" / "trainer.py"
M = TypeVar("M", bound=Message)


class Attempt:
    """A run directory with one attempt that is started, disturbed and looked at."""

    def __init__(
        self,
        root: Path,
        script: dict[str, Any],
        *,
        number: int = 1,
        ranks: int = 1,
        command: Sequence[str] = (sys.executable, str(FAKE)),
        **fields: Any,
    ) -> None:
        self.run = root / "runs" / "job"
        self.folder = self.run / "attempts" / str(number)
        self.folder.mkdir(parents=True)
        self.mark = f"{root}/{number}"
        data = root / "rows.jsonl"
        (root / "rows.jsonl.fake.json").write_text(json.dumps(script))
        self.bootstrap = trainer_pb2.Bootstrap(
            protocol=1,
            job_id="job",
            attempt=number,
            run_directory=str(self.run),
            rank_command=command,
            device_ids=[""] * ranks,
            prepared_root=str(root / "prepared"),
            stop_grace_seconds=5,
            kill_grace_seconds=5,
            environment={"PATH": os.environ["PATH"], "FINETUNED_ATTEMPT": self.mark},
            output_path=str(self.run / "output"),
        )
        self.bootstrap.spec.data.train.add(path=str(data))
        self.bootstrap.MergeFrom(trainer_pb2.Bootstrap(**fields))
        self.keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> Attempt:
        with (self.folder / "keeper.log").open("wb") as log:
            self.keeper = subprocess.Popen(
                [sys.executable, "-m", "fttrain.keeper"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=dict(self.bootstrap.environment),
                start_new_session=True,
            )
        assert self.keeper.stdin is not None
        with self.keeper.stdin as stdin:
            stdin.write(self.bootstrap.SerializeToString())
        return self

    def stop(self, *, save: bool | None) -> None:
        """As the daemon asks; `save` None: as a host that goes down."""
        if save is not None:
            (self.folder / "stop.json").write_text(json.dumps({"save": save}))
        self.signal_keeper(signal.SIGTERM)

    def signal_keeper(self, number: signal.Signals) -> None:
        assert self.keeper is not None
        self.keeper.send_signal(number)

    def wait(self, seconds: float = 60) -> trainer_pb2.AttemptExit:
        """The keeper's last word, when it has ended by itself."""
        assert self.keeper is not None
        assert self.keeper.wait(timeout=seconds) == 0, (self.folder / "keeper.log").read_text()
        assert self.alive() == []
        return self.read("exit.json", trainer_pb2.AttemptExit)

    def ended(self, seconds: float = 60) -> event_pb2.AttemptEnded:
        """`wait`, and the end the journal has, which is the same."""
        word = self.wait(seconds)
        last = self.events()[-1]
        assert last.ended == word.ended
        return word.ended

    def read(self, name: str, kind: type[M]) -> M:
        return json_format.Parse((self.folder / name).read_text(), kind())

    def ranks(self) -> list[int]:
        """Pids of the ranks, as soon as they are on record."""
        eventually((self.folder / "keeper.json").exists)
        return [rank.pid for rank in self.read("keeper.json", trainer_pb2.KeeperRecord).ranks]

    def alive(self) -> list[int]:
        """Pids of all processes of this attempt, the keeper included."""
        entry = f"FINETUNED_ATTEMPT={self.mark}".encode()
        return [
            pid
            for pid in map(int, filter(str.isdecimal, (each.name for each in Path("/proc").iterdir())))
            if entry in _environment(pid)
        ]

    def events(self) -> list[event_pb2.TrainingEvent]:
        path = self.run / "events.journal"
        data = path.read_bytes() if path.exists() else b""
        return list(metric_service_pb2.StreamMetricsResponse.FromString(data).events)

    def lines(self) -> list[event_pb2.LogLine]:
        return list(metric_service_pb2.StreamLogsResponse.FromString((self.run / "logs.journal").read_bytes()).lines)

    def steps(self) -> list[int]:
        return [event.step.step for event in self.events() if event.HasField("step")]

    def until_step(self, step: int) -> None:
        eventually(lambda: step in self.steps())


def eventually(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits until a condition of another process is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
