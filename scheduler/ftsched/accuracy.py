"""How well the estimates meet measured peaks: `python -m ftsched.accuracy ROWS.csv --models models.json`.

Prints for each group of rows how many there are, the median, the 95th percentile and the worst of the errors without
their sign, and the share that needed more than would have been reserved; with `--oom` also how many of the runs that
did not fit would have been refused, and how many of those that ran. It must never fit anything to what it reads.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ftsched.estimate import Estimate, estimate_shape
from ftsched.rows import BadTable, Row, Table, read_models, read_rows

GIB = 2**30
# What torch reserves is more than what it allocates; what the driver says, the context more.
RESERVED = 1.03
CONTEXT_GIB = 0.9
# What a process can have of a card, GiB; of other cards so much of what its name says.
USABLE_GIB = {"A100-80GB": 79.15, "A100-40GB": 39.39, "A10G-24GB": 22.06, "H100-80GB": 79.11, "L4-24GB": 22.17}
USABLE_SHARE = 0.985


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors in percent of what was measured, without their sign; `under_pct` is after the margin."""

    n: int
    median_pct: float | None
    p95_pct: float | None
    worst_pct: float | None
    under_pct: float | None


@dataclass(frozen=True, slots=True)
class Refusals:
    """Runs that did not fit and the share of them foreseen; runs that fitted and the share refused for nothing."""

    n_oom: int
    caught_pct: float | None
    n_ran: int
    false_pct: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A row and the estimate for it."""

    row: Row
    estimate: Estimate

    @property
    def predicted_gib(self) -> float:
        """What the row's reading should have been."""
        return _read_as(self.row.metric, self.estimate.peak_bytes / GIB)

    @property
    def error(self) -> float:
        """Relative error, negative where it was more than predicted."""
        return self.predicted_gib / (self.row.peak_gib or 1) - 1

    @property
    def under(self) -> bool:
        """Whether more was needed than would have been reserved, context aside."""
        with_margin = sum(term.bytes for term in self.estimate.terms if term.name != "context") / GIB
        return _read_as(self.row.metric, with_margin) < (self.row.peak_gib or 0)


def _exactly(row: Row) -> bool:
    return (row.framework, row.metric, row.exact) == ("trl", "allocated", True)


def _usual(row: Row) -> bool:
    return row.shape.model_type in ("llama", "mistral")


GROUPS: dict[str, Callable[[Row], bool]] = {
    "single-gpu-exact": lambda row: _exactly(row) and _usual(row) and row.work.gpus == 1,
    "multi-gpu-exact": lambda row: _exactly(row) and _usual(row) and row.work.gpus > 1,
    "other-architectures": lambda row: _exactly(row) and not _usual(row),
    "all": lambda row: True,
}


def judge(rows: Iterable[Row]) -> list[Judged]:
    """Each row with its estimate."""
    return [Judged(row, estimate_shape(row.work, row.shape)) for row in rows]


def accuracies(judged: Sequence[Judged]) -> dict[str, Accuracy]:
    """The accuracy of each group, over the rows that have a peak."""
    measured = [each for each in judged if each.row.peak_gib is not None]
    return {name: _accuracy([each for each in measured if belongs(each.row)]) for name, belongs in GROUPS.items()}


def refusals(judged: Sequence[Judged], oom: Sequence[Judged]) -> Refusals:
    """What admission would have said about runs that did not fit, and about those that did.

    Only of those whose configuration and whose card are known.
    """
    failed = [_refused(each) for each in oom if _tells(each.row)]
    ran = [_refused(each) for each in judged if each.row.peak_gib is not None and _tells(each.row)]
    return Refusals(len(failed), _share(failed), len(ran), _share(ran))


def _tells(row: Row) -> bool:
    return row.quality != "C" and usable_gib(row.gpu) is not None


def usable_gib(gpu: str) -> float | None:
    """What a process can have of a card with this name; None if the name does not say how large it is."""
    if gpu in USABLE_GIB:
        return USABLE_GIB[gpu]
    stated = re.search(r"(\d+) ?GB", gpu)
    return int(stated[1]) * USABLE_SHARE if stated else None


def _refused(judged: Judged) -> bool:
    usable = usable_gib(judged.row.gpu)
    return usable is not None and judged.estimate.peak_bytes / GIB * RESERVED + CONTEXT_GIB > usable


def _read_as(metric: str, allocated_gib: float) -> float:
    if metric == "allocated":
        return allocated_gib
    reserved = allocated_gib * RESERVED
    return reserved if metric in ("reserved", "active") else reserved + CONTEXT_GIB


def _accuracy(judged: Sequence[Judged]) -> Accuracy:
    if not judged:
        return Accuracy(0, None, None, None, None)
    errors = sorted(abs(each.error) * 100 for each in judged)
    p95 = statistics.quantiles(errors, n=20, method="inclusive")[-1] if len(errors) > 1 else errors[0]
    under = _share([each.under for each in judged])
    return Accuracy(len(errors), round(statistics.median(errors), 2), round(p95, 2), round(errors[-1], 2), under)


def _share(hits: Sequence[bool]) -> float | None:
    return round(100 * sum(hits) / len(hits), 2) if hits else None


def _text(groups: dict[str, Accuracy], oom: Refusals | None) -> str:
    lines = [f"{'group':<20} {'n':>5} {'median':>8} {'p95':>8} {'worst':>8} {'under':>8}"]
    for name, found in groups.items():
        figures = (found.median_pct, found.p95_pct, found.worst_pct, found.under_pct)
        lines.append(f"{name:<20} {found.n:>5} " + " ".join(f"{_percent(figure):>8}" for figure in figures))
    if oom:
        lines.append(f"did not fit: {oom.n_oom}, foreseen {_percent(oom.caught_pct)}")
        lines.append(f"ran: {oom.n_ran}, refused for nothing {_percent(oom.false_pct)}")
    return "\n".join(lines)


def _percent(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f} %"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or 2 where a file cannot be read."""
    parser = argparse.ArgumentParser("python -m ftsched.accuracy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path, metavar="ROWS.csv", help="runs with their measured peaks")
    parser.add_argument("--models", type=Path, required=True, metavar="models.json", help="shapes of their models")
    parser.add_argument("--oom", type=Path, metavar="OOM.csv", help="runs that did not fit their card")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        shapes = read_models(options.models)
        table = read_rows(options.rows, shapes)
        failed = read_rows(options.oom, shapes) if options.oom else Table()
    except BadTable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for reason in (*table.skipped, *failed.skipped):
        sys.stderr.write(f"skipped: {reason}\n")
    judged = judge(table.rows)
    groups, oom = accuracies(judged), refusals(judged, judge(failed.rows)) if options.oom else None
    report = {"groups": {name: asdict(found) for name, found in groups.items()}} | ({"oom": asdict(oom)} if oom else {})
    sys.stdout.write((json.dumps(report, indent=2) if options.json else _text(groups, oom)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
