"""Files of a job are opened so that a job cannot lead the daemon elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftd.files import open_folder, read_file, write_atomically


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("secret")
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "file").write_text("content")
    return tmp_path / "root"


def test_reads_a_regular_file_within_its_limit(root: Path) -> None:
    assert read_file(root, "sub/file", 7) == b"content"
    assert read_file(root, "sub/file", 6) is None
    assert read_file(root, "sub/none", 7) is None
    assert read_file(root, "none/file", 7) is None


def test_follows_no_link_at_any_place(root: Path) -> None:
    (root / "sub" / "link").symlink_to(root.parent / "secret")
    (root / "folder").symlink_to(root.parent / "elsewhere")
    assert read_file(root, "sub/link", 100) is None
    assert read_file(root, "folder/file", 100) is None
    with pytest.raises(OSError, match="folder"):
        open_folder(root, "folder")


@pytest.mark.parametrize("path", ["../secret", "sub/../../secret", "/etc/passwd"])
def test_leads_nowhere_else(root: Path, path: str) -> None:
    assert read_file(root, path, 100_000) is None


def test_does_not_wait_for_a_pipe_or_read_a_folder(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert read_file(root, "pipe", 100) is None
    assert read_file(root, "sub", 100) is None


def test_writes_in_one_move_and_leaves_nothing_beside(root: Path) -> None:
    write_atomically(root / "file", b"one")
    write_atomically(root / "file", b"two")
    assert (root / "file").read_bytes() == b"two"
    assert sorted(path.name for path in root.iterdir()) == ["file", "sub"]


def test_a_link_is_replaced_and_not_written_through(root: Path) -> None:
    (root / "file").symlink_to(root.parent / "secret")
    write_atomically(root / "file", b"new")
    assert (root.parent / "secret").read_text() == "secret"


def test_open_descriptors_are_closed(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("sub/file", "sub/none", "none/none", "../secret"):
        read_file(root, path, 100)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
