"""The control group of an attempt, in a folder that looks like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fttrain.cgroup import Group

OWN = "/system.slice/ftd.service/daemon"
LIMIT = 3 << 30


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """The group that systemd has delegated, with the daemon's part in it."""
    service = tmp_path / "system.slice" / "ftd.service"
    (service / "daemon").mkdir(parents=True)
    (service / "cgroup.controllers").write_text("cpu memory pids\n")
    (service / "cgroup.subtree_control").write_text("")
    return service


def test_a_group_beside_the_daemon_s(service: Path, tmp_path: Path) -> None:
    group = Group.make("job-a-1", LIMIT, tmp_path, OWN)
    assert group is not None
    made = service / "job-a-1"
    assert (service / "cgroup.subtree_control").read_text() == "+memory"
    assert (made / "memory.max").read_text() == str(LIMIT)
    assert (made / "memory.swap.max").read_text() == "0"
    group.enter()
    assert (made / "cgroup.procs").read_text() == "0"


@pytest.mark.parametrize(
    ("events", "ran_out"),
    [("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n", True), ("max 7\noom_kill 0\n", False), ("", False), (None, False)],
)
def test_whether_the_kernel_killed_for_it(service: Path, tmp_path: Path, events: str | None, ran_out: bool) -> None:
    group = Group.make("job-a-1", LIMIT, tmp_path, OWN)
    assert group is not None
    if events is not None:
        (service / "job-a-1" / "memory.events").write_text(events)
    assert group.ran_out() is ran_out


@pytest.mark.parametrize("own", ["/system.slice/ftd.service", "/", "/user.slice/shell"])
def test_no_group_where_the_daemon_has_no_part_of_its_own(service: Path, tmp_path: Path, own: str) -> None:
    assert Group.make("job-a-1", LIMIT, tmp_path, own) is None
    assert not (service / "job-a-1").exists()


def test_no_group_without_the_memory_controller(service: Path, tmp_path: Path) -> None:
    (service / "cgroup.controllers").write_text("cpu pids\n")
    assert Group.make("job-a-1", LIMIT, tmp_path, OWN) is None


def test_no_group_where_nothing_is_delegated(tmp_path: Path) -> None:
    assert Group.make("job-a-1", LIMIT, tmp_path, OWN) is None


def test_it_is_given_back(service: Path, tmp_path: Path) -> None:
    group = Group.make("job-a-1", LIMIT, tmp_path, OWN)
    assert group is not None
    # The files of a real group go with it.
    for file in (service / "job-a-1").iterdir():
        file.unlink()
    group.remove()
    assert not (service / "job-a-1").exists()
