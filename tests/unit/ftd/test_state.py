import os
from pathlib import Path

import pytest

from ftd.state import State, StateRefused


def run_directory(state: State, name: str, *, started: bool) -> Path:
    path = state.runs / name
    (path / "attempts" if started else path).mkdir(parents=True)
    return path


def test_a_second_daemon_is_told_who_is_there(tmp_path: Path) -> None:
    state = State.claim(tmp_path / "state")
    with pytest.raises(StateRefused, match=f"another daemon has this state directory, process {os.getpid()}; stop it"):
        State.claim(tmp_path / "state")
    os.close(state.lock)
    State.claim(tmp_path / "state")


def test_a_directory_that_cannot_be_made_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateRefused, match="cannot be used as state directory: Not a directory"):
        State.claim(tmp_path / "file" / "state")


def test_a_new_database_beside_old_runs_is_refused(tmp_path: Path) -> None:
    state = State.claim(tmp_path)
    run_directory(state, "jabc234567", started=True)
    with pytest.raises(StateRefused, match=r"has no jobs, but 1 that were started lie in .* \(jabc234567, …\)"):
        state.check_runs(frozenset(), is_new=True)


def test_what_a_crash_left_of_a_submit_goes_and_nothing_else(tmp_path: Path) -> None:
    state = State.claim(tmp_path)
    unborn = run_directory(state, "jaaaaaaaaa", started=False)
    known = run_directory(state, "jbbbbbbbbb", started=False)
    stranger = run_directory(state, "jccccccccc", started=True)
    state.check_runs(frozenset({"jbbbbbbbbb"}), is_new=False)
    assert (unborn.exists(), known.exists(), stranger.exists()) == (False, True, True)
