"""The keeper of one attempt: starts the ranks, keeps what they print, ends them, and speaks last when nothing is left.

`python -m fttrain.keeper < bootstrap`. It outlives the daemon and needs nothing of it. Single-threaded, on the standard
library and our messages only. It must never write exit.json while a process of the attempt lives, and never import
torch.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import procs
from fttrain.cgroup import Group
from fttrain.files import write_message
from fttrain.journal import JournalDamaged, JournalWriter
from fttrain.logs import LineSplitter, Log
from fttrain.verdict import Ended, judge

PROTOCOL = 1
_SYNC_SECONDS = 5.0
_LOG_BYTES = 256 << 20
_READ_BYTES = 1 << 16
_LONGEST_WORD = 4 << 20
# Kept free at the start so that the last word can be written on a full disk.
_RESERVE = ".reserve"
_RESERVE_BYTES = 1 << 16
_PIPE_BYTES = 1 << 18
_UNBOUNDED = (
    "the host's memory is not bounded for this attempt: the daemon may not divide its control group. "
    "A service of systemd with DelegateSubgroup=daemon may"
)


class Rank:
    """One process of the attempt, with the pipe that it and its children print to."""

    def __init__(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        self.number = number
        self.process = process
        self.output = process.stdout
        self.lines = LineSplitter()
        self.ended: Ended | None = None

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        """Signals it, or all of its process group, unless it has been reaped: then the number may be another's."""
        if self.ended is None:
            (os.killpg if group else os.kill)(self.process.pid, number)


class Keeper:
    """The whole life of one attempt."""

    def __init__(self, bootstrap: trainer_pb2.Bootstrap) -> None:
        self._bootstrap = bootstrap
        self._run = Path(bootstrap.run_directory)
        self._folder = self._run / "attempts" / str(bootstrap.attempt)
        self._start_time = time.time()
        self._ranks: list[Rank] = []
        self._selector = selectors.DefaultSelector()
        self._log = Log(JournalWriter(self._run / "logs.journal"), bootstrap.attempt, _LOG_BYTES)
        self._group = self._make_group()
        # What is done when, soonest first; filled by a stop request or a failure.
        self._escalation: list[tuple[float, Callable[[], None]]] = []
        self._stopping = False
        self._failing = False
        # We have sent SIGTERM or SIGKILL: from here on a rank's end without a word says nothing.
        self._forcing = False
        self._next_sync = time.monotonic() + _SYNC_SECONDS

    def run(self) -> None:
        """Starts the ranks and returns when the last word is on the disk."""
        self._reserve()
        self._hear_signals()
        failure = None
        try:
            self._start_ranks()
            self._record()
        except OSError as error:
            failure = _cannot_start(error)
        while failure is None and any(rank.ended is None for rank in self._ranks):
            self._turn()
        self._note(procs.end_descendants())
        self._drain()
        self._conclude(failure)

    def _start_ranks(self) -> None:
        """Raises OSError if a rank cannot be started; what was started then is ended by the caller's conclusion."""
        port = _free_port()
        for number, device in enumerate(self._bootstrap.device_ids):
            rank = Rank(number, self._start_rank(number, device, port))
            os.set_blocking(rank.output.fileno(), False)
            self._selector.register(rank.output, selectors.EVENT_READ, lambda rank=rank: self._pump(rank))
            self._ranks.append(rank)

    def _start_rank(self, number: int, device: str, port: int) -> subprocess.Popen[bytes]:
        environment = {
            **self._bootstrap.environment,
            "RANK": str(number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(len(self._bootstrap.device_ids)),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "CUDA_VISIBLE_DEVICES": device,
        }
        stdin = os.memfd_create("bootstrap")
        try:
            os.pwrite(stdin, self._for_ranks.SerializeToString(), 0)
            return subprocess.Popen(  # noqa: S603 - an argument list from the host's configuration, no shell
                list(self._bootstrap.rank_command),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Room for what it prints while we wait for a disk.
                pipesize=_PIPE_BYTES,
                env=environment,
                cwd=self._run,
                start_new_session=True,
                preexec_fn=_prologue(os.getpid(), self._group),
            )
        finally:
            os.close(stdin)

    def _record(self) -> None:
        record = trainer_pb2.KeeperRecord(
            protocol=PROTOCOL,
            boot_id=procs.boot_id(),
            keeper=procs.identity(os.getpid()),
            ranks=[procs.identity(rank.process.pid) for rank in self._ranks],
        )
        record.start_time.FromNanoseconds(int(self._start_time * 1e9))
        write_message(self._folder / "keeper.json", record)

    def _turn(self) -> None:
        """Waits for the next thing to happen and does it."""
        due = min([self._next_sync, *(when for when, _ in self._escalation[:1])])
        for key, _ in self._selector.select(max(0.0, due - time.monotonic())):
            key.data()
        while self._escalation and self._escalation[0][0] <= time.monotonic():
            self._escalation.pop(0)[1]()
        if self._next_sync <= time.monotonic():
            self._sync()

    def _hear_signals(self) -> None:
        """Signals arrive as bytes on a socket, so that the loop has one place to wait."""
        self._wake, self._bell = socket.socketpair()
        self._wake.setblocking(False)
        self._bell.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_signal)

    def _on_signal(self) -> None:
        numbers = self._wake.recv(4096)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stop()
        if signal.SIGUSR1 in numbers:
            # A checkpoint is wanted, and then it goes on.
            self._signal(signal.SIGUSR2, group=False)
        statuses, _ = procs.reap()
        self._note(statuses)

    def _stop(self) -> None:
        """Asks the ranks to stop at their next step. A second request changes nothing: the clock runs already."""
        if self._stopping or self._failing:
            return
        request = self._folder / "stop.json"
        # Without a request of the daemon the host is going down: keep what can be kept.
        if not request.exists():
            with contextlib.suppress(OSError):
                write_message(request, trainer_pb2.StopRequest(save=True))
        self._signal(signal.SIGUSR1, group=False)
        if _keeps(request):
            # Writing an output takes as long as it takes. Who does not want to wait asks again, without.
            return
        self._stopping = True
        deadline = time.monotonic() + self._bootstrap.stop_grace_seconds
        self._escalation = [(deadline, self._terminate), (deadline + self._bootstrap.kill_grace_seconds, self._kill)]

    def _terminate(self) -> None:
        self._forcing = True
        self._signal(signal.SIGTERM, group=True)

    def _kill(self) -> None:
        self._forcing = True
        self._note(procs.end_descendants())

    def _signal(self, number: signal.Signals, *, group: bool) -> None:
        for rank in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                rank.signal(number, group=group)

    def _note(self, statuses: dict[int, int]) -> None:
        """Takes in which ranks have ended. The first failure ends the others, at once: they wait for it in vain."""
        for rank in self._ranks:
            status = statuses.get(rank.process.pid)
            if status is not None:
                rank.process.returncode = status
                rank.ended = Ended(rank.number, status, time.time(), self._word(rank.number), self._forcing)
        if not self._failing and any(rank.ended is not None and rank.ended.failed for rank in self._ranks):
            self._failing = True
            now = time.monotonic()
            self._escalation = [(now, self._terminate), (now + self._bootstrap.kill_grace_seconds, self._kill)]

    def _word(self, rank: int) -> trainer_pb2.RankResult | None:
        content = _read(self._folder / f"rank-{rank}.json")
        try:
            return json_format.Parse(content, trainer_pb2.RankResult(), ignore_unknown_fields=True) if content else None
        except (json_format.ParseError, UnicodeDecodeError):
            return None

    def _pump(self, rank: Rank) -> bool:
        """Takes over a piece of what a rank has printed; whether there may be more right now."""
        try:
            data = os.read(rank.output.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        for line in rank.lines.feed(data) if data else rank.lines.rest():
            self._log.write(rank.number, line)
        if not data:
            self._selector.unregister(rank.output)
            rank.output.close()
        return bool(data)

    def _drain(self) -> None:
        """Takes over the last that was printed; nobody is left to print more."""
        for rank in self._ranks:
            while not rank.output.closed and self._pump(rank):
                continue

    def _sync(self) -> None:
        self._log.sync()
        with contextlib.suppress(OSError):
            _sync_file(self._run / "events.journal")
        self._next_sync = time.monotonic() + _SYNC_SECONDS

    def _conclude(self, failure: event_pb2.Failure | None) -> None:
        """Nothing is left: the last words, in the journal and in exit.json. `failure` is set if the ranks never ran."""
        full = _free_bytes(self._run) < _RESERVE_BYTES
        (self._folder / _RESERVE).unlink(missing_ok=True)
        if failure is None:
            ranks = [rank.ended for rank in self._ranks if rank.ended is not None]
            hit = self._group is not None and self._group.ran_out()
            cap = self._bootstrap.host_cap_bytes if hit else 0
            ended = judge(ranks, self._newest_checkpoint(), disk_full=full, host_cap_bytes=cap)
        else:
            ended = event_pb2.AttemptEnded(outcome=event_pb2.OUTCOME_FAILED, failure=failure)
        if self._group is not None:
            self._group.remove()
        self._append(ended)
        self._sync()
        word = trainer_pb2.AttemptExit(ended=ended)
        word.time.FromNanoseconds(time.time_ns())
        word.rank_statuses.extend(rank.ended.status for rank in self._ranks if rank.ended is not None)
        first = self._ranks[0].ended if self._ranks else None
        if first is not None and first.result is not None:
            word.prepared_directory = first.result.prepared_directory
            if first.result.HasField("lineage"):
                word.lineage.CopyFrom(first.result.lineage)
            if first.result.HasField("data"):
                word.data.CopyFrom(first.result.data)
        write_message(self._folder / "exit.json", word)

    def _append(self, ended: event_pb2.AttemptEnded) -> None:
        """The end belongs into the journal, but exit.json is what counts: a journal that cannot take it is noted."""
        event = event_pb2.TrainingEvent(attempt=self._bootstrap.attempt, ended=ended)
        event.time.FromNanoseconds(time.time_ns())
        try:
            with JournalWriter(self._run / "events.journal") as journal:
                journal.append(event)
        except (OSError, JournalDamaged) as error:
            self._log.write(-1, f"events.journal does not have the end of this attempt: {error}")

    def _newest_checkpoint(self) -> str:
        """Name of the newest checkpoint of this attempt that has its manifest; whoever resumes from it verifies it."""
        newest, name = -1, ""
        for manifest in (self._run / "checkpoints").glob("checkpoint-*/manifest.json"):
            step = manifest.parent.name.removeprefix("checkpoint-")
            recent = manifest.stat(follow_symlinks=False).st_mtime >= self._start_time
            if step.isdecimal() and recent and int(step) > newest:
                newest, name = int(step), manifest.parent.name
        return name

    @property
    def _for_ranks(self) -> trainer_pb2.Bootstrap:
        """What the ranks are told: those that have no group to bound them bound themselves, as far as they can."""
        message = trainer_pb2.Bootstrap()
        message.CopyFrom(self._bootstrap)
        if self._group is not None:
            message.host_cap_bytes = 0
        return message

    def _make_group(self) -> Group | None:
        cap = self._bootstrap.host_cap_bytes
        if not cap:
            return None
        group = Group.make(f"job-{self._bootstrap.job_id}-{self._bootstrap.attempt}", cap)
        if group is None and any(self._bootstrap.device_ids):
            self._log.write(-1, _UNBOUNDED)
        return group

    def _reserve(self) -> None:
        with contextlib.suppress(OSError), (self._folder / _RESERVE).open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)


def _keeps(request: Path) -> bool:
    try:
        return json_format.Parse(_read(request), trainer_pb2.StopRequest(), ignore_unknown_fields=True).keep
    except (json_format.ParseError, UnicodeDecodeError):
        return False


def _prologue(keeper: int, group: Group | None) -> Callable[[], None]:
    """What a rank does between fork and exec."""

    def prologue() -> None:
        procs.die_with(keeper)
        if group is not None:
            group.enter()
        # A request to stop that comes before the rank listens must not kill it: stop.json tells it later.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        # When the host runs out of memory, the kernel should take a trainer rather than the daemon.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("500")

    return prologue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_bytes(folder: Path) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def _sync_file(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fdatasync(file)
    finally:
        os.close(file)


def _read(path: Path) -> bytes:
    """What a rank wrote, empty if it is not there or not a plain file of a sane size."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        content = os.read(file, _LONGEST_WORD + 1)
    except OSError:
        return b""
    finally:
        os.close(file)
    return content if len(content) <= _LONGEST_WORD else b""


def _cannot_start(error: OSError) -> event_pb2.Failure:
    return event_pb2.Failure(
        failure_class=event_pb2.FAILURE_CLASS_INTERNAL,
        message=f"the trainer could not be started: {error.strerror}",
        advice="see trainer.rank_command in the daemon's configuration",
        rank=-1,
    )


def main() -> None:
    """Keeps the attempt whose Bootstrap is on the standard input."""
    bootstrap = trainer_pb2.Bootstrap.FromString(sys.stdin.buffer.read())
    if bootstrap.protocol != PROTOCOL:
        sys.exit(f"this keeper speaks protocol {PROTOCOL}, the daemon {bootstrap.protocol}")
    procs.adopt_orphans()
    Keeper(bootstrap).run()


if __name__ == "__main__":
    main()
