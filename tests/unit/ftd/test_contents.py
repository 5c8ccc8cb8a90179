from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from ftd.contents import KEPT_SECONDS, Contents, write
from ftd.errors import ChecksumMismatch, DiskFull, UploadOffset

ROWS = b"a row\n" * 100
SHA256 = sha256(ROWS).hexdigest()


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    made = Contents(tmp_path / "datasets")
    made.clear((), 0.0)
    return made


def part(contents: Contents, rows: bytes, offset: int = 0) -> int:
    opened = contents.open_part(SHA256, offset, len(rows))
    write(opened, rows, offset)
    return opened


def test_a_full_disk_keeps_what_came_before(contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, pwrite = part(contents, ROWS[:100]), os.pwrite

    def full(_file: int, _rows: bytes, _at: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFull, match="free space"):
        write(opened, ROWS[100:], 100)
    os.close(opened)
    monkeypatch.setattr(os, "pwrite", pwrite)
    assert contents.received(SHA256) == 100
    opened = part(contents, ROWS[100:], 100)
    contents.keep(opened, SHA256, "rows.txt")
    os.close(opened)
    assert Path(contents.path(SHA256, "rows.txt")).read_bytes() == ROWS


def test_more_than_the_disk_has_is_refused_before_it_is_sent(contents: Contents) -> None:
    with pytest.raises(DiskFull, match="no room"):
        contents.open_part(SHA256, 0, 1 << 62)
    assert contents.received(SHA256) == 0


def test_what_goes_on_from_an_earlier_place_is_cut_there(contents: Contents) -> None:
    os.close(part(contents, b"something else that is longer"))
    opened = part(contents, ROWS)
    contents.keep(opened, SHA256, "rows.txt")
    os.close(opened)
    with pytest.raises(UploadOffset, match="0 bytes are here"):
        contents.open_part(SHA256, 1, 1)


def test_other_bytes_than_announced_are_not_kept(contents: Contents) -> None:
    opened = part(contents, ROWS[:-1])
    with pytest.raises(ChecksumMismatch):
        contents.keep(opened, SHA256, "rows.txt")
    os.close(opened)
    assert contents.received(SHA256) == 0
    assert not Path(contents.path(SHA256, "rows.txt")).exists()


def test_a_start_removes_what_has_no_name_and_what_nobody_went_on_with(contents: Contents) -> None:
    for name in ("known", "unknown"):
        (contents.root / name).mkdir()
    os.close(part(contents, ROWS))
    came = (contents.root / ".parts" / SHA256).stat().st_mtime
    contents.clear(("known",), came + KEPT_SECONDS)
    assert sorted(path.name for path in contents.root.iterdir()) == [".parts", "known"]
    assert contents.received(SHA256) == len(ROWS)
    contents.clear(("known",), came + KEPT_SECONDS + 1)
    assert contents.received(SHA256) == 0
