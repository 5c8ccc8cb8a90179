"""The bound on prepared rows: what goes and what stays, and that two processes with the same rows leave one entry."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftd import rowcache
from ftd.rowcache import trim

HOUR = 3600.0


def entry(root: Path, name: str, bytes_: int, hours_ago: float) -> Path:
    (root / name / "train").mkdir(parents=True)
    (root / name / "train" / "rows.arrow").write_bytes(b"x" * bytes_)
    report = root / name / "report.json"
    report.touch()
    os.utime(report, (time.time() - hours_ago * HOUR,) * 2)
    return report


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_was_used_longest_ago_goes_first_until_it_fits(tmp_path: Path) -> None:
    for hours, name in enumerate(("new", "older", "oldest"), 1):
        entry(tmp_path, name, 100, hours)
    assert trim(tmp_path, 300, (), ()) == []
    assert trim(tmp_path, 250, (), ()) == ["oldest"]
    assert trim(tmp_path, 0, (), ()) == ["older", "new"]
    assert left(tmp_path) == []


def test_rows_of_a_live_job_stay_however_large(tmp_path: Path) -> None:
    entry(tmp_path, "live", 1000, 9)
    entry(tmp_path, "other", 10, 1)
    assert trim(tmp_path, 500, ("live",), ()) == ["other"]
    assert left(tmp_path) == ["live"]


def test_rows_that_were_used_a_moment_ago_stay(tmp_path: Path) -> None:
    entry(tmp_path, "told of soon", 1000, 0.1)
    assert trim(tmp_path, 0, (), ()) == []


def test_rows_that_are_used_while_they_are_removed_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = entry(tmp_path, "a", 100, 2)
    rename = Path.rename

    def used_first(path: Path, target: Path) -> Path:
        if path == report.parent:
            os.utime(report)
        return rename(path, target)

    monkeypatch.setattr(rowcache.Path, "rename", used_first)
    assert trim(tmp_path, 0, (), ()) == []
    assert left(tmp_path) == ["a"]


def test_what_dead_preparations_left_is_removed(tmp_path: Path) -> None:
    for name in (".abc.jdead", ".abc.jlive", ".gone.abc"):
        (tmp_path / name / "train").mkdir(parents=True)
    assert trim(tmp_path, 0, (), ("jlive",)) == []
    assert left(tmp_path) == [".abc.jlive"]
    assert trim(tmp_path / "none", 0, (), ()) == []


WRITER = """
import sys
from pathlib import Path
from fttrain.data import cache
root, job = Path(sys.argv[1]), sys.argv[2]
for number in range(40):
    with cache.new_entry(root, f"rows-{number}", job) as folder:
        for name in ("report.json", "rows.arrow"):
            (folder / name).write_text(job * 1000)
"""


def test_two_processes_that_write_the_same_rows_leave_whole_entries(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), job]) for job in ("ja", "jb")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert left(tmp_path) == sorted(f"rows-{number}" for number in range(40))
    for folder in tmp_path.iterdir():
        contents = {file.read_text() for file in folder.iterdir()}
        assert contents in ({"ja" * 1000}, {"jb" * 1000})
