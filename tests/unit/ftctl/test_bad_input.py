"""What cannot be read, or must not be sent: one clear error each, the exit code of the sheet, no traceback."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon

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
