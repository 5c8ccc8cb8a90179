"""The command: `python -m ftsched.simulate jct|pack ...`. One JSON object on stdout; errors on stderr, exit status 2.

The same input and seed give the same bytes, so the clock is read only with --timed; the planning times are null
without.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ftsched.model import Policy
from ftsched.simulate import estimates, ours
from ftsched.simulate.boards import NAMES, new_board
from ftsched.simulate.cluster import Cluster, count_only, first_node, fullest_node
from ftsched.simulate.engine import Outcome, Rules, Run, Scheduler, simulate
from ftsched.simulate.formats import MILLI, BadTrace, format_of, read_jobs, read_nodes, read_pods
from ftsched.simulate.pack import pack
from ftsched.simulate.policies import KNOWING, ORDERS
from ftsched.simulate.queue import ListScheduler
from ftsched.simulate.report import JOB_COLUMNS, job_rows, summary

PREEMPTIVE = ("ours", "srtf", "srsf", "tiresias")
GIB = 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        result = options.run(options)
    except (BadTrace, OSError) as error:
        print(f"ftsched.simulate: {error}", file=sys.stderr)  # noqa: T201 -- this is a command
        return 2
    print(json.dumps(result, indent=2))  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ftsched.simulate", description=__doc__)
    commands = parser.add_subparsers(required=True)
    jct = commands.add_parser("jct", help="completion times of a recorded queue")
    jct.set_defaults(run=_jct)
    jct.add_argument("trace", type=Path, help=".csv or .csv.gz")
    jct.add_argument("--format", choices=("muri", "openb", "jobs"), help="default: what the columns say")
    jct.add_argument("--nodes", type=_nodes, default="8x8", help="NODESxCARDS[:MEMORYGiB], default 8x8:80GiB")
    jct.add_argument("--policy", choices=("ours", *ORDERS), default="ours")
    jct.add_argument("--knows", type=_knows, default="exact", help="exact, nothing, lognormal:SIGMA or helios")
    jct.add_argument(
        "--backfill", choices=("none", "fill", "easy"), help="default: easy; fill where all can be preempted"
    )
    jct.add_argument("--preempt", choices=("on", "off"), help=f"default: on for {', '.join(PREEMPTIVE)}")
    jct.add_argument("--share", choices=("on", "off"), default="off", help="whether fractional jobs share cards")
    jct.add_argument("--rules", choices=("muri", "restart"), help="default: muri where its traces are preempted")
    jct.add_argument("--seed", type=int, default=1, help="of the errors of the estimates")
    jct.add_argument("--jobs-out", type=Path, metavar="FILE", help="one CSV row for each job")
    jct.add_argument("--timed", action="store_true", help="measure the plan, too")
    _add_pack(commands.add_parser("pack", help="how much of a cluster the pods of a list can use"))
    return parser


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_pack)
    parser.add_argument("pods", type=Path, help=".csv or .csv.gz")
    parser.add_argument("--node-list", type=Path, required=True, metavar="NODES", help=".csv or .csv.gz")
    parser.add_argument("--arrivals", type=_arrivals, default=1.3, help="pods arrive for so many times the cards")
    parser.add_argument("--seeds", type=_seeds, default="42-51", help="FIRST-LAST, one run each; default 42-51")
    parser.add_argument("--policy", type=_packing, default="ours", help=NAMES)


def _nodes(text: str) -> tuple[int, int, int]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?::([1-9]\d*)GiB)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 8x8 or 8x8:80GiB")
    nodes, cards, gib = found.groups(default="80")
    return int(nodes), int(cards), int(gib) * GIB


def _knows(text: str) -> str:
    try:
        estimates.factors(text, 0, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of exact, nothing, lognormal:SIGMA, helios") from None
    return text


def _arrivals(text: str) -> float:
    value = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _seeds(text: str) -> range:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 42-51")
    return range(int(found[1]), int(found[2] or found[1]) + 1)


def _packing(text: str) -> str:
    try:
        new_board(text, ())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {NAMES}") from None
    return text


def _pack(options: argparse.Namespace) -> dict[str, object]:
    pods, nodes = read_pods(options.pods), read_nodes(options.node_list)
    return pack(nodes, pods, options.arrivals, options.seeds, new_board(options.policy, pods))


def _jct(options: argparse.Namespace) -> dict[str, object]:
    kind = options.format or format_of(options.trace)
    jobs = read_jobs(options.trace, kind)
    if options.share == "off":
        jobs = [replace(job, milli=MILLI) for job in jobs]
    if options.policy in KNOWING and options.knows == "nothing":
        raise BadTrace(f"--policy {options.policy} needs run times; --knows nothing goes with ours, fifo and tiresias")
    preempt = options.preempt == "on" if options.preempt else options.policy in PREEMPTIVE
    rules: Rules = options.rules or ("muri" if kind == "muri" and preempt else "restart")
    known = estimates.factors(options.knows, len(jobs), options.seed)
    runs = [Run(job, factor) for job, factor in zip(jobs, known, strict=True)]
    scheduler = _scheduler(options, rules, preempt=preempt)
    outcome = simulate(runs, scheduler, rules)
    if options.jobs_out:
        _write_jobs(options.jobs_out, outcome)
    nodes, cards, _ = options.nodes
    timed = scheduler.plan_seconds if isinstance(scheduler, ours.PlanScheduler) else ()
    return {**summary(outcome, nodes * cards, timed)}


def _scheduler(options: argparse.Namespace, rules: Rules, *, preempt: bool) -> Scheduler:
    nodes, cards, memory = options.nodes
    # All places are given up at every event.
    drop = preempt and rules == "muri"
    if options.policy == "ours":
        return ours.PlanScheduler(
            ours.devices(nodes, cards, memory, share=options.share == "on"),
            # Whoever fills a hole delays nobody if it is asked to leave at the next event.
            Policy(backfill=options.backfill or ("fill" if drop else "easy"), preempt="service" if preempt else "off"),
            drop=drop,
            clock=time.perf_counter if options.timed else None,
        )
    # As published: what is given up again soon goes to the first node.
    placement = first_node if drop else fullest_node
    return ListScheduler(
        Cluster(nodes, cards),
        ORDERS[options.policy](),
        count_only if options.policy == "tiresias" else placement,
        backfill=options.backfill or ("fill" if preempt else "easy"),
        preempt=preempt,
        keep=rules == "restart",
    )


def _write_jobs(path: Path, outcome: Outcome) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(JOB_COLUMNS)
        writer.writerows(job_rows(outcome))


if __name__ == "__main__":
    sys.exit(main())
