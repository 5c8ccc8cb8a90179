"""Lines as a terminal shows them, bounded whatever is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetuned.v1 import metric_service_pb2
from fttrain.journal import JournalWriter
from fttrain.logs import LONGEST_LINE, LineSplitter, Log


def split(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.rest()


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b" 10%\r 50%\r100%\ndone\n", ["100%", "done"]),
        (b"caf\xc3\xa9 \xff\n", ["café �"]),
        (b"last\r", ["last"]),
    ],
)
def test_lines(printed: bytes, shown: list[str]) -> None:
    assert split(printed) == shown


@given(st.binary(max_size=60).map(lambda data: data.translate(bytes([10, 13, 97, 98] * 64))), st.integers(1, 7))
def test_lines_do_not_depend_on_the_pieces(printed: bytes, size: int) -> None:
    pieces = [printed[at : at + size] for at in range(0, len(printed), size)]
    assert split(*pieces) == split(printed)


@pytest.mark.parametrize("piece", [1000, 100_000])
@pytest.mark.parametrize("byte", [b"x", b"\xff", "é".encode()])
def test_a_long_line_is_cut_and_marked(byte: bytes, piece: int) -> None:
    printed = byte * 50_000 + b"\nnext\n"
    pieces = [printed[at : at + piece] for at in range(0, len(printed), piece)]
    long, after = split(*pieces)
    assert long.endswith(" … [cut]")
    assert LONGEST_LINE - 8 <= len(long.encode()) <= LONGEST_LINE
    assert after == "next"


def test_a_line_of_the_longest_length_is_whole() -> None:
    assert split(b"x" * LONGEST_LINE + b"\n") == ["x" * LONGEST_LINE]


def test_an_endless_line_is_not_kept_in_memory() -> None:
    splitter = LineSplitter()
    for _ in range(100):
        splitter.feed(b"x" * 65_536)
    assert len(splitter._pending) <= LONGEST_LINE


def test_a_log_that_is_full_says_so_once(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        log = Log(journal, attempt=1, size_limit=1 << 20)
        for _ in range(1000):
            log.write(0, "x" * 8000)
    lines = metric_service_pb2.StreamLogsResponse.FromString((tmp_path / "j").read_bytes()).lines
    assert len(lines) < 140
    assert (lines[-1].rank, lines[-1].text) == (-1, "the log has reached 1 MiB; further lines are not kept")
    assert lines[-2].rank == 0
