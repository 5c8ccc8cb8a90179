"""What cannot be read, or must not be sent: one clear error each, the exit code of the sheet, no traceback."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.fakes.daemon import FakeDaemon
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_pb2
from ftclient import connection

Matches = Callable[..., None]

SPEC = "model:\n  path: /models/smol\ndata:\n  train:\n    - path: a.jsonl\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tab", "model:\n\tpath: x\n"),
        ("duplicate", SPEC + "seed: 1\nseed: 2\n"),
        ("unknown", SPEC + "lora: {rnak: 8}\nlearning_rate: 1e-4\n"),
        ("secret", SPEC + "annotations: {token: hf_" + "a1" * 17 + "}\n"),
        ("deep", "model: " + "[" * 20_000),
        ("empty", ""),
        ("list", "- model\n"),
        ("large", SPEC + "# " + "x" * 1024 * 1024),
    ],
)
def test_a_file(daemon: FakeDaemon, matches: Matches, name: str, text: str) -> None:
    Path("job.yaml").write_text(text)
    matches(f"bad-{name}", "submit", "-f", "job.yaml")
    assert not [request for request in daemon.requests if type(request).__name__ == "CreateJobRequest"]
    assert "hf_" not in str(daemon.requests)


def test_bytes_that_are_no_text(daemon: FakeDaemon, matches: Matches) -> None:
    Path("job.yaml").write_bytes(b"\xff\xfe\x00")
    matches("bad-bytes", "submit", "-f", "job.yaml")


def test_a_folder(daemon: FakeDaemon, matches: Matches) -> None:
    Path("job.yaml").mkdir()
    matches("bad-folder", "submit", "-f", "job.yaml")


class Endless(io.TextIOBase):
    """Standard input that never ends."""

    taken = 0

    def read(self, size: int | None = -1) -> str:
        assert size is not None
        assert size > 0, "read whole"
        self.taken += size
        return "x" * size


def test_an_endless_pipe(daemon: FakeDaemon, matches: Matches, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Endless()
    monkeypatch.setattr("sys.stdin", endless)
    matches("bad-endless", "submit", "-f", "-")
    assert endless.taken <= 2 * 1024 * 1024


def test_a_name_that_is_two_jobs_prefix(daemon: FakeDaemon, matches: Matches) -> None:
    for made in ("k7m2p9x4qd", "k7m2abcdef"):
        daemon.jobs[made] = job_pb2.Job(id=made, name="twin")
    matches("bad-prefix", "cancel", "k7m2")
    matches("bad-name", "describe", "twin")


def test_an_address_where_nobody_listens(matches: Matches, monkeypatch: pytest.MonkeyPatch) -> None:
    # One try is enough here; how often a call is repeated is for the SDK's tests.
    monkeypatch.setattr(connection, "RETRY_PAUSES", ())
    matches("bad-socket", "--address", "unix:/nowhere/ftd.sock", "get")


def test_a_port_where_nobody_listens(ftctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "RETRY_PAUSES", ())
    done = ftctl("--address", "127.0.0.1:1", "get")
    what, why, following = done.err.splitlines()
    assert what == "error: the daemon cannot be reached"
    assert why.startswith("  why: tried 127.0.0.1:1 (")
    assert following.startswith(" next: ")
    assert (done.out, done.code) == ("", 5)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 4),
        (grpc.StatusCode.PERMISSION_DENIED, 4),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 6),
        (grpc.StatusCode.UNIMPLEMENTED, 1),
    ],
)
def test_what_a_daemon_or_a_proxy_refuses(
    code: grpc.StatusCode, exit_code: int, ftctl: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    class Refusing(FakeDaemon):
        def ListJobs(self, request: Any, context: Any) -> Any:  # noqa: N802
            context.abort(code, "so it is")

    with Refusing(tmp_path_factory.mktemp("r") / "s") as refusing:
        done = ftctl("--address", refusing.address, "get")
    assert [line[:6] for line in done.err.splitlines()] == ["error:", "  why:", " next:"]
    assert done.code == exit_code
