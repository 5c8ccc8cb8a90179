"""The whole command on traces so small that the results are worked out by hand, in the comments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftsched.simulate.__main__ import main

DATA = Path(__file__).parents[3] / "data" / "traces"
KEYS = [
    "jobs",
    "unstarted",
    "avg_jct_s",
    "p99_jct_s",
    "makespan_s",
    "avg_wait_s",
    "p95_wait_s",
    "max_wait_s",
    "preemptions",
    "events",
    "utilisation",
    "plan_ms_p50",
    "plan_ms_p99",
]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> dict[str, Any]:
        assert main(arguments) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def jct(command: Any, trace: str, *arguments: str, nodes: str = "1x2") -> dict[str, Any]:
    found: dict[str, Any] = command("jct", str(DATA / trace), "--nodes", nodes, *arguments)
    return found


@pytest.mark.parametrize(
    ("policy", "backfill", "completions"),
    [
        # a runs to 100; then b and c side by side, c to 110, b to 150; d needs both cards.
        ("fifo", "easy", (100, 140, 90, 125)),
        # c and d have 10 card-seconds each, b has 50: c to 110, d to 115, b to 165; b may not pass d, which it delays.
        ("ssf", "none", (100, 155, 90, 85)),
        ("ssf", "easy", (100, 155, 90, 85)),
        # The same with b passing: it starts at 100 beside c, and d waits for it.
        ("ssf", "fill", (100, 140, 90, 125)),
        # d runs 5 s, c 10 s: d to 105, then c to 115 and b beside it to 155.
        ("sjf", "none", (100, 145, 95, 75)),
    ],
)
def test_without_preemption(policy: str, backfill: str, completions: tuple[float, ...], command: Any) -> None:
    found = jct(command, "jobs.csv", "--policy", policy, "--backfill", backfill)
    assert found["avg_jct_s"] == sum(completions) / 4
    assert found["preemptions"] == 0


def test_all_figures(command: Any) -> None:
    found = jct(command, "jobs.csv", "--policy", "fifo")
    assert list(found) == KEYS
    assert found == {
        "jobs": 4,
        "unstarted": 0,
        "avg_jct_s": 113.75,
        "p99_jct_s": 140,
        "makespan_s": 155,
        "avg_wait_s": 72.5,
        "p95_wait_s": 120,
        "max_wait_s": 120,
        "preemptions": 0,
        # Four arrivals, and completions at 100, 110, 150 and 155.
        "events": 8,
        # 200 + 50 + 10 + 10 card-seconds of 2 x 155.
        "utilisation": 0.871,
        "plan_ms_p50": None,
        "plan_ms_p99": None,
    }


@pytest.mark.parametrize("policy", ["srsf", "srtf"])
def test_with_preemption(policy: str, command: Any) -> None:
    """At 10 b stops a, at 30 d stops b; d to 35, b to 65, and only then a to 155."""
    found = jct(command, "jobs.csv", "--policy", policy)
    assert found["avg_jct_s"] == (155 + 55 + 10 + 5) / 4
    assert found["preemptions"] == 2


def test_the_rules_of_muri(command: Any) -> None:
    """Job 0 loses 7 s at 50 and at 60.15, where events happen, and ends at 115.5; job 1 loses nothing."""
    assert jct(command, "muri.csv", "--policy", "srsf")["avg_jct_s"] == pytest.approx((115.5 + 10.15) / 2, abs=1e-3)


def test_the_rules_of_a_restart(command: Any) -> None:
    """Each job pays for its start, and only for that; who goes on stays on its card."""
    found = jct(command, "muri.csv", "--policy", "fifo", "--preempt", "on", "--rules", "restart")
    assert found["avg_jct_s"] == pytest.approx((108.5 + 20.15) / 2, abs=1e-3)


def test_shared_cards(command: Any) -> None:
    """On one card the second half waits for the first, or runs beside it; nobody has two cards for the pair."""
    alone = jct(command, "pods.csv", "--policy", "fifo", "--backfill", "fill", nodes="1x1")
    shared = jct(command, "pods.csv", "--policy", "fifo", "--backfill", "fill", "--share", "on", nodes="1x1")
    assert (alone["avg_wait_s"], alone["unstarted"]) == (45, 1)
    assert (shared["avg_wait_s"], shared["unstarted"]) == (0, 1)


@pytest.mark.parametrize("arguments", [[], ["--preempt", "off"], ["--rules", "restart"], ["--knows", "nothing"]])
def test_ours_runs_everything(arguments: list[str], command: Any) -> None:
    found = jct(command, "jobs.csv", "--policy", "ours", *arguments)
    assert (found["jobs"], found["unstarted"]) == (4, 0)


def test_ours_shares_cards(command: Any) -> None:
    found = jct(command, "pods.csv", "--share", "on", nodes="1x1")
    assert (found["avg_wait_s"], found["unstarted"]) == (0, 1)


def test_ours_with_all_places_given_up_is_as_good_as_srsf(command: Any) -> None:
    found = jct(command, "jobs.csv", "--rules", "muri")
    assert found["avg_jct_s"] <= (155 + 55 + 10 + 5) / 4


def test_the_plan_is_measured_on_request(command: Any) -> None:
    found = jct(command, "jobs.csv", "--timed")
    assert 0 < found["plan_ms_p50"] <= found["plan_ms_p99"]


def test_same_input_and_seed_same_bytes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outputs = []
    for name in ("one.csv", "two.csv"):
        arguments = ["jct", str(DATA / "jobs.csv"), "--nodes", "1x2", "--knows", "lognormal:1.0", "--seed", "7"]
        assert main([*arguments, "--jobs-out", str(tmp_path / name)]) == 0
        outputs.append((capsys.readouterr().out, (tmp_path / name).read_bytes()))
    assert outputs[0] == outputs[1]


def test_one_row_for_each_job(command: Any, tmp_path: Path) -> None:
    jct(command, "pods.csv", "--policy", "fifo", "--jobs-out", str(tmp_path / "jobs.csv"), nodes="1x1")
    assert (tmp_path / "jobs.csv").read_text().splitlines() == [
        "job,gpus,submit_s,start_s,end_s,jct_s,wait_s,preemptions",
        "half,1,0.0,0.0,100.0,100.0,0.0,0",
        "other-half,1,10.0,100.0,150.0,140.0,90.0,0",
        "pair,2,20.0,,,,,0",
    ]


@pytest.mark.parametrize("policy", ["ours", "random", "bestfit", "firstfit", "fgd", "fgd:95"])
def test_packing(policy: str, command: Any) -> None:
    """The three pods with cards ask for all three cards; wherever the halves go, the best is all of them."""
    lists = (str(DATA / "pods.csv"), "--node-list", str(DATA / "nodes.csv"))
    found = command("pack", *lists, "--policy", policy, "--seeds", "1-3", "--arrivals", "1.5")
    assert list(found) == ["runs", "mean", "sd", "unallocated_gpus"]
    assert [run["seed"] for run in found["runs"]] == [1, 2, 3]
    for run in found["runs"]:
        assert list(run) == ["seed", "pods", "failed", "allocated"]
        assert list(run["allocated"]) == ["80", "90", "100", "110", "150"]
        assert 0 < run["allocated"]["150"] <= 100
    assert found["unallocated_gpus"] == pytest.approx(3 * (1 - found["mean"]["150"] / 100), abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jct", "t.csv", "--nodes", "8"], "'8' is not like 8x8 or 8x8:80GiB"),
        (
            ["jct", "t.csv", "--knows", "lognormal:-1"],
            "'lognormal:-1' is none of exact, nothing, lognormal:SIGMA, helios",
        ),
        (["jct", "t.csv", "--knows", "much"], "'much' is none of"),
        (["pack", "p.csv", "--node-list", "n.csv", "--policy", "fgd:0"], "'fgd:0' is none of ours, random"),
        (["pack", "p.csv", "--node-list", "n.csv", "--seeds", "5-4"], "'5-4' is not like 42-51"),
        (["pack", "p.csv", "--node-list", "n.csv", "--arrivals", "-1"], "'-1' is not a number above 0"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jct", "missing.csv"], "missing.csv: a readable .csv or .csv.gz file is needed"),
        (["jct", str(DATA / "jobs.csv"), "--format", "muri"], "line 2: no column 'num_gpu'"),
        (["jct", str(DATA / "jobs.csv"), "--policy", "srsf", "--knows", "nothing"], "--policy srsf needs run times"),
        (["pack", str(DATA / "pods.csv"), "--node-list", str(DATA / "pods.csv")], "line 2: no column 'sn'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
