"""Lists that are watched, and lines that are chosen from a log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import START, job, log_lines
from tests.support.terminal import Terminal
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import job_pb2
from ftclient.results import Job
from ftclient.wire import read
from ftctl.output import Format
from ftctl.show import listing

WAITS = job_pb2.Job(id="w2abcdefgh", name="dpo-1", state=job_pb2.JOB_STATE_QUEUED)
Watch = Callable[[Format], str]


@pytest.fixture
def daemon(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    monkeypatch.setattr(listing, "PERIOD", 0.01)
    for each in (WAITS, job()):
        daemon.jobs[each.id] = each
    return daemon


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Watch:
    """What is shown of two jobs, of which one makes a step between two looks, until who looks is interrupted."""
    monkeypatch.setattr(listing, "PERIOD", 0.01)

    def watched(form: Format) -> str:
        looks: Iterator[list[Job]] = ([read(Job, WAITS), read(Job, job(step=step))] for step in (1, 2, 2))

        def fetch() -> list[Job]:
            try:
                return next(looks)
            except StopIteration:
                raise KeyboardInterrupt from None

        with pytest.raises(KeyboardInterrupt):
            listing.follow(fetch, form, to_end=False)
        return capsys.readouterr().out

    return watched


def test_json_is_a_line_for_each_change(watch: Watch) -> None:
    told = [json.loads(line) for line in watch(Format.JSON).splitlines()]
    assert [(each["id"], each.get("progress", {}).get("step")) for each in told] == [
        ("w2abcdefgh", None),
        ("k7m2p9x4qd", "1"),
        ("k7m2p9x4qd", "2"),
    ]


@pytest.mark.parametrize(
    ("form", "lines"), [("name", 3), ("csv", 4), ("table", 4), ("wide", 4)], ids=["name", "csv", "table", "wide"]
)
def test_other_forms_have_a_line_for_each_change_too(watch: Watch, form: str, lines: int) -> None:
    assert len(watch(Format(form)).splitlines()) == lines


def test_yaml_is_a_document_for_each_change(watch: Watch) -> None:
    assert watch(Format.YAML).count("---\n") == 3


def test_on_a_terminal_the_table_is_drawn_again(watch: Watch, on_terminal: Callable[[int], None]) -> None:
    on_terminal(100)
    assert "2/10 (20%)" in watch(Format.TABLE)


def test_ctrl_c_ends_the_watching(daemon: FakeDaemon) -> None:
    with Terminal("get", "-w", environ={"FTD_ADDRESS": daemon.address}) as terminal:
        terminal.until(lambda lines: any("w2abcdefgh" in line for line in lines))
        terminal.interrupt()
        assert terminal.ended() == 130


def test_jobs_by_name_are_watched_until_they_have_ended(daemon: FakeDaemon, ftctl: Run) -> None:
    daemon.jobs["k7m2p9x4qd"].state = job_pb2.JOB_STATE_SUCCEEDED
    done = ftctl("get", "job", "support-v3", "-w", "-o", "name")
    assert (done.out, done.code) == ("k7m2p9x4qd\n", 0)


def test_a_job_is_told_again_only_when_it_has_changed() -> None:
    first, second = read(Job, job(step=1)), read(Job, job(step=2))
    assert list(listing.changes([[first], [read(Job, job(step=1))], [second], [second]])) == [first, second]


def test_more_jobs_than_are_shown(ftctl: Run) -> None:
    done = ftctl("get", "--limit", "1", "-q")
    assert (done.out, done.err) == ("w2abcdefgh\n", "there are more than 1; --limit shows more\n")


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (["--grep", "line [24]"], "line 2\nline 4\n"),
        (["--grep", "line", "--tail", "2"], "line 4\nline 5\n"),
        (["--attempt", "2"], ""),
        (["--since", "1h"], "line 5\n"),
    ],
)
def test_lines_of_a_log_are_chosen(daemon: FakeDaemon, ftctl: Run, args: list[str], lines: str) -> None:
    made = daemon.log_lines["k7m2p9x4qd"] = log_lines(5)
    assert made[0].time.seconds == START
    made[-1].time.GetCurrentTime()
    assert ftctl("logs", "k7m2", *args).out == lines


@pytest.mark.parametrize("args", [["--since", "soon"], ["--since", "99999999999d"], ["--grep", "("]])
def test_what_cannot_be_meant(ftctl: Run, args: list[str]) -> None:
    done = ftctl("logs", "k7m2", *args)
    assert done.code == 2
    assert f"Invalid value: {args[0]}" in done.err
