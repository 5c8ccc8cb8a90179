"""Everything that is wrong with a spec by its text alone: what each field accepts, and how fields go together.

`check` finds all problems at once, each with the path of the field and what would be accepted. A module here is one
subject with its RULES. It is pure: whether files exist and devices are large enough is `ftd.intake`'s to ask.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftd.errors import Violation
from ftd.inference import Inference
from ftd.limits import broken_limits
from ftd.spec import DeviceKind, JobSpec
from ftd.validate import (
    data,
    evaluation,
    inference,
    methods,
    online,
    outputs,
    running,
    sharding,
    stages,
    trackers,
    weights,
)

MOST_DEPENDENCIES = 32
_TRAINING = (
    *weights.RULES,
    *running.RULES,
    *evaluation.RULES,
    *outputs.RULES,
    *data.RULES,
    *stages.RULES,
    *online.RULES,
    *methods.RULES,
    *sharding.RULES,
)
_INFERENCE = (
    *weights.RULES,
    *running.DEVICES,
    *evaluation.ANSWERS,
    *data.SOURCES,
    *methods.DEVICES,
    *inference.RULES,
)


def check(spec: JobSpec, device: DeviceKind) -> list[Violation]:
    """All problems of a spec for a host on which it would run on `device`; none if it can be resolved."""
    found = [*broken_limits(spec), *_times(spec), *_after(spec), *trackers.problems(spec.trackers)]
    for rule in _INFERENCE if isinstance(spec.training.stage, Inference) else _TRAINING:
        found += [Violation(f"training.{path}", text) for path, text in rule(spec.training, device)]
    return found


def _times(spec: JobSpec) -> Iterator[Violation]:
    if spec.deadline is not None and spec.not_before is not None and spec.deadline <= spec.not_before:
        yield Violation("deadline", "is not after not_before, so the job could never run; accepted is a later time")


def _after(spec: JobSpec) -> Iterator[Violation]:
    if len(spec.after) > MOST_DEPENDENCIES:
        yield Violation("after", f"names {len(spec.after)} jobs; accepted are at most {MOST_DEPENDENCIES}")
    names = [each.job for each in spec.after]
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield Violation(f"after[{index}].job", f"names {name} again; accepted is each job once")
