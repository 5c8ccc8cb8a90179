from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftd.paths import PathRefused, Roots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "file").write_bytes(b"content")
    (root / "folder").mkdir()
    return root


def refusal(roots: Roots, path: Path | str, kind: str = "file") -> str:
    with pytest.raises(PathRefused) as caught:
        os.close(roots.open(str(path), kind))  # type: ignore[arg-type]
    return str(caught.value)


def test_a_file_below_a_root_is_read(root: Path) -> None:
    roots = Roots((root / "nowhere", root))
    assert roots.read(str(root / "file"), 7) == b"content"
    assert roots.read(str(root / "folder" / ".." / "file"), 7) == b"content"


def test_every_path_is_below_the_root_of_the_host(root: Path) -> None:
    assert Roots((Path("/"),)).read(str(root / "file"), 7) == b"content"


def test_a_file_over_the_limit_is_refused(root: Path) -> None:
    with pytest.raises(PathRefused, match="has more than 6 bytes; accepted is a smaller file"):
        Roots((root,)).read(str(root / "file"), 6)


def test_links_are_followed_as_long_as_they_stay_below(root: Path) -> None:
    (root / "link").symlink_to("file")
    (root / "out").symlink_to("../secret")
    roots = Roots((root,))
    assert roots.read(str(root / "link"), 7) == b"content"
    assert refusal(roots, root / "out").startswith("is outside the folders this host allows here")


def test_a_root_may_itself_be_a_link(root: Path) -> None:
    (root.parent / "alias").symlink_to("root")
    assert Roots((root.parent / "alias",)).read(str(root / "file"), 7) == b"content"


def test_a_neighbour_with_the_same_beginning_is_outside(root: Path) -> None:
    (root.parent / "rooted").write_bytes(b"")
    assert "is outside" in refusal(Roots((root,)), root.parent / "rooted")


def test_what_is_outside_is_not_told_to_exist_or_not(root: Path) -> None:
    roots = Roots((root, Path("/srv/models")))
    expected = f"is outside the folders this host allows here; accepted is a path below {root} or /srv/models"
    assert refusal(roots, root.parent / "secret") == expected
    assert refusal(roots, root.parent / "nothing") == expected
    assert refusal(roots, root / ".." / "secret") == expected


def test_what_is_wrong_with_a_path_below_a_root_is_told(root: Path) -> None:
    roots = Roots((root,))
    missing = f"is {root / 'no'}, which does not exist on the daemon's host; accepted is an existing"
    assert refusal(roots, root / "no") == f"{missing} file"
    assert refusal(roots, root / "no", "folder") == f"{missing} folder"
    assert refusal(roots, root / "folder") == "is not a file; accepted is a file"
    assert refusal(roots, root / "file", "folder") == "is not a folder; accepted is a folder"
    assert refusal(roots, root / "file" / "x") == "leads through something that is not a folder"
    assert refusal(roots, root / ("x" * 300)) == "cannot be opened: File name too long"


def test_a_pipe_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert refusal(Roots((root,)), root / "pipe") == "is not a file; accepted is a file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(root: Path) -> None:
    (root / "file").chmod(0)
    text = "cannot be read: permission denied; accepted is a file that the daemon's user may read"
    assert refusal(Roots((root,)), root / "file") == text


def test_a_path_to_be_made_is_checked_without_being_there(root: Path) -> None:
    roots = Roots((root,))
    roots.check(str(root / "new" / "output"))
    with pytest.raises(PathRefused, match="is outside"):
        roots.check(str(root / ".." / "output"))


def test_no_descriptor_is_left_open(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    roots = Roots((root,))
    roots.read(str(root / "file"), 7)
    refusal(roots, root / "folder")
    refusal(roots, root.parent / "secret")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
