from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ftsched.simulate.formats import BadTrace, Job, Node, Pod, format_of, read_jobs, read_nodes, read_pods

DATA = Path(__file__).parents[3] / "data" / "traces"
MIB = 2**20


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_jobs_as_we_write_them() -> None:
    assert read_jobs(DATA / "jobs.csv", "jobs")[:2] == [Job("a", 0, 2, 100, 1.0), Job("b", 10, 1, 50, 1.0)]


def test_optional_columns_of_jobs(tmp_path: Path) -> None:
    trace = write(tmp_path / "t.csv", "job,submit_s,gpus,run_s,overhead_s,gpu_milli\nx,0,1,5,7,250\n")
    assert read_jobs(trace, "jobs") == [Job("x", 0, 1, 5, 1.0, 7.0, 250)]


def test_jobs_of_muri() -> None:
    first, second = read_jobs(DATA / "muri.csv", "muri")
    assert (first.submit, first.overhead_seconds) == (0, 7)
    assert first.run_seconds == pytest.approx(101.5)
    assert (second.submit, second.overhead_seconds) == (50, 10)


@pytest.mark.parametrize(("cards", "seconds"), [(1, 38), (2, 39), (3, 39), (8, 46), (32, 46), (64, 46)])
def test_the_overhead_grows_with_the_gang(cards: int, seconds: int, tmp_path: Path) -> None:
    header = "job_id,num_gpu,submit_time,iterations,model_name,iteration_time\n"
    trace = write(tmp_path / "t.csv", header + f"0,{cards},0,1,a2c,1\n")
    assert read_jobs(trace, "muri")[0].overhead_seconds == seconds


def test_pods_as_a_queue() -> None:
    """Early ones, those without a card, one that never ran: no jobs. Who was never scheduled runs from its creation."""
    jobs = [(job.id, job.submit, job.run_seconds, job.milli) for job in read_jobs(DATA / "pods.csv", "openb")]
    assert jobs == [("half", 0, 100, 500), ("other-half", 10, 50, 500), ("pair", 20, 20, 1000)]


def test_pods_as_a_list() -> None:
    pods = read_pods(DATA / "pods.csv")
    assert pods[2] == Pod(2000, 1024 * MIB, 2, 1000, frozenset({"A", "B"}))
    assert pods[4] == Pod(1000, 1024 * MIB, 0, 0)


def test_nodes() -> None:
    assert read_nodes(DATA / "nodes.csv")[1] == Node("small", 4000, 4096 * MIB, 1, "B")


def test_jobs_come_in_the_order_of_their_submission(tmp_path: Path) -> None:
    trace = write(tmp_path / "t.csv", "job,submit_s,gpus,run_s\nlate,9,1,1\nfirst,3,1,1\nsecond,3,1,1\n")
    assert [job.id for job in read_jobs(trace, "jobs")] == ["first", "second", "late"]


def test_compressed_is_the_same(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "t.csv.gz", "wb") as file:
        file.write((DATA / "jobs.csv").read_bytes())
    assert read_jobs(tmp_path / "t.csv.gz", "jobs") == read_jobs(DATA / "jobs.csv", "jobs")


@pytest.mark.parametrize(("name", "kind"), [("jobs.csv", "jobs"), ("muri.csv", "muri"), ("pods.csv", "openb")])
def test_the_columns_say_the_format(name: str, kind: str) -> None:
    assert format_of(DATA / name) == kind


JOBS = "job,submit_s,gpus,run_s\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (JOBS, "no job to simulate"),
        (JOBS + "a,0,1\n", "line 2: as many values as the first line has columns"),
        (JOBS + "a,0,1,5\nb,0,1,5,6\n", "line 3: as many values as the first line has columns"),
        (JOBS + "a,-1,1,5\n", "line 2: submit_s is '-1'; a number from 0 on"),
        (JOBS + "a,0,1,nan\n", "line 2: run_s is 'nan'; a number from 0 on"),
        (JOBS + "a,0,0,5\n", "line 2: gpus is 0; a whole number from 1 on"),
        (JOBS + "a,0,1.5,5\n", "line 2: gpus is '1.5'; a whole number from 1 on"),
        ("job,submit_s,gpus\na,0,1\n", "line 2: no column 'run_s'; there are 'job', 'submit_s', 'gpus'"),
        (JOBS.strip() + ",gpu_milli\na,0,1,5,1001\n", "gpu_milli is 1001; a whole number from 1 to 1000"),
    ],
)
def test_a_bad_row_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadTrace) as caught:
        read_jobs(write(tmp_path / "t.csv", text), "jobs")
    assert message in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    write(tmp_path / "plain.csv.gz", JOBS)
    for path in (tmp_path / "missing.csv", tmp_path / "plain.csv.gz", tmp_path):
        with pytest.raises(BadTrace, match="a readable"):
            read_jobs(path, "jobs")


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=r"one of the columns iterations .muri., creation_time .openb., run_s .jobs."):
        format_of(write(tmp_path / "t.csv", "x\n1\n"))


NODES = "sn,cpu_milli,memory_mib,gpu,model\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [(NODES + "a,1,1,0,A\n", "a node with gpu from 1 on"), (NODES + "a,1,1,1,A\na,1,1,1,A\n", "an sn of its own")],
)
def test_lists_of_nodes_that_are_none(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=message):
        read_nodes(write(tmp_path / "n.csv", text))


def test_pods_that_share_several_cards_are_refused(tmp_path: Path) -> None:
    pods = write(tmp_path / "p.csv", "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,2,500\n")
    with pytest.raises(BadTrace, match="gpu_milli is 500; 1000 is needed where num_gpu is more than 1"):
        read_pods(pods)


def test_pods_without_cards_are_no_packing(tmp_path: Path) -> None:
    pods = write(tmp_path / "p.csv", "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,0,0\n")
    with pytest.raises(BadTrace, match="a pod with num_gpu from 1 on"):
        read_pods(pods)
