"""Holds the estimate to real training steps on fake tensors: `python -m tests.oracle [WORD ...] [--json]`.

Only configurations whose names hold all words are tried. Prints each one's estimate, the peak of the step, by how much
the estimate is off, its moment and the operation at the peak; at the end the median, the 95th percentile and the worst.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import asdict
from typing import Any

from tests.oracle.compare import Outcome, compare, summary
from tests.oracle.configurations import TABLE

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="try only configurations with all of these in the name"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    asked = parser.parse_args()
    # The libraries' warnings are about trainings that are meant to last.
    warnings.simplefilter("ignore")
    chosen = [each for each in TABLE if all(word in each.name for word in asked.words)]
    if not chosen:
        sys.exit(f"no configuration has {' and '.join(asked.words)} in its name; all are in {TABLE[0].__module__}")
    outcomes = []
    for each in chosen:
        outcomes.append(compare(each))
        if not asked.json:
            print(_line(outcomes[-1]), flush=True)
    print(json.dumps(_document(outcomes), indent=1) if asked.json else _last_line(outcomes))


def _line(outcome: Outcome) -> str:
    estimate, oracle = outcome.estimate_bytes / GIB, outcome.oracle_bytes / GIB
    during = f"{outcome.moment}; {outcome.operation} {outcome.node}"
    return f"{outcome.name:58}  {estimate:8.3f}  {oracle:8.3f} GiB  {outcome.error_percent:+6.2f} %  {during}"


def _last_line(outcomes: list[Outcome]) -> str:
    figures = summary(outcomes)
    return f"{figures.pop('n')} configurations: " + ", ".join(f"{name} {x:.2f} %" for name, x in figures.items())


def _document(outcomes: list[Outcome]) -> dict[str, Any]:
    rows = [{**asdict(each), "error_percent": each.error_percent} for each in outcomes]
    return {"rows": rows, "summary": summary(outcomes)}


if __name__ == "__main__":
    main()
