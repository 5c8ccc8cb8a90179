"""What a simulation is judged by, as plain values for JSON and CSV; nothing here writes a file.

Averages hide starvation, so the tails, the longest wait and the jobs that never started stand beside them. A job waits
whenever it holds no devices. A figure of no jobs is None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftsched.simulate.engine import Outcome

DIGITS = 3
JOB_COLUMNS = ("job", "gpus", "submit_s", "start_s", "end_s", "jct_s", "wait_s", "preemptions")

Report = dict[str, float | int | None]


def summary(outcome: Outcome, cards: int, plan_seconds: Sequence[float] = ()) -> Report:
    """The figures of a simulation on so many cards. Seconds, but for the planning times, which are milliseconds."""
    finished = outcome.finished
    completion = sorted(end - run.job.submit for run, end in finished.items())
    waits = sorted(max(0.0, end - run.job.submit - run.attained) for run, end in finished.items())
    makespan = max(finished.values()) - outcome.runs[0].job.submit if finished else None
    plans = sorted(seconds * 1000 for seconds in plan_seconds)
    figures: Report = {
        "jobs": len(outcome.runs),
        "unstarted": sum(run.first_started is None for run in outcome.runs),
        "avg_jct_s": _mean(completion),
        "p99_jct_s": _quantile(completion, 0.99),
        "makespan_s": makespan,
        "avg_wait_s": _mean(waits),
        "p95_wait_s": _quantile(waits, 0.95),
        "max_wait_s": waits[-1] if waits else None,
        "preemptions": sum(run.stops for run in outcome.runs),
        "events": outcome.events,
        "utilisation": outcome.card_seconds / (cards * makespan) if makespan else None,
        "plan_ms_p50": _quantile(plans, 0.5),
        "plan_ms_p99": _quantile(plans, 0.99),
    }
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in figures.items()}


def job_rows(outcome: Outcome) -> Iterator[tuple[str | float | int | None, ...]]:
    """One row for each job, in the order of the trace, as JOB_COLUMNS; None where a job never came so far."""
    for run in outcome.runs:
        end, job = outcome.finished.get(run), run.job
        completion = None if end is None else end - job.submit
        wait = None if completion is None else max(0.0, completion - run.attained)
        times = (job.submit, run.first_started, end, completion, wait)
        yield (job.id, job.cards, *(time if time is None else round(time, DIGITS) for time in times), run.stops)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _quantile(ascending: Sequence[float], share: float) -> float | None:
    """The element at the floor of share x count, from 0, as the published tables count."""
    return ascending[int(share * len(ascending))] if ascending else None
