"""What the scheduler believes about run times: the truth, nothing, or the truth with errors drawn from a seed.

exact         the true run time
nothing       none
lognormal:S   times e^(S x N(0, 1))
helios        the errors that Helios saw in its predictions (SC 2021), up to a hundredfold, either way
"""

from __future__ import annotations

import math
import random

from ftsched.simulate.engine import Run

# A job past its estimate is expected to take this much longer, in seconds.
QUANTUM = 60.0
# Share of the jobs, and the relative error of these, from and to.
HELIOS = ((0.1, 0.0, 0.1), (0.4, 0.1, 0.5), (0.2, 0.5, 1.0), (0.2, 1.0, 10.0), (0.1, 10.0, 100.0))


def estimated_seconds(run: Run) -> float:
    """The estimated whole run time of a job; infinite if nobody knows."""
    return run.factor * run.job.run_seconds


def remaining_seconds(run: Run) -> float:
    """The estimated remaining run time of a job: one quantum if the estimate is used up, infinite if nobody knows."""
    left = (run.factor * run.job.steps - run.done_steps) * run.job.step_seconds
    return left if left > 0 else QUANTUM


def factors(knows: str, count: int, seed: int) -> list[float]:
    """Estimated over true run time of so many jobs, infinite where nobody knows.

    Raises ValueError for a kind of knowledge that there is not.
    """
    draw = random.Random(seed)  # noqa: S311 -- a simulation, repeatable on purpose
    kind, _, argument = knows.partition(":")
    if knows == "nothing":
        return [math.inf] * count
    if knows == "exact":
        return [1.0] * count
    if knows == "helios":
        return [_helios(draw) for _ in range(count)]
    if kind == "lognormal":
        sigma = float(argument)
        if math.isfinite(sigma) and sigma >= 0:
            return [math.exp(sigma * draw.gauss(0.0, 1.0)) for _ in range(count)]
    raise ValueError(knows)


def _helios(draw: random.Random) -> float:
    _, low, high = draw.choices(HELIOS, weights=[share for share, _, _ in HELIOS])[0]
    # Nothing can be under-estimated by more than all of it, so that an error downwards divides.
    factor = 1.0 + draw.uniform(low, high)
    return factor if draw.random() < 0.5 else 1.0 / factor
