"""How the fields of a tracker go together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftd.errors import Violation
from ftd.spec import choice_name
from ftd.trackers import Kind, Mlflow, Tracker, Wandb
from ftd.validate.problems import listed

KINDS = ("tensorboard", "wandb", "mlflow", "trackio")


def problems(trackers: Sequence[Tracker]) -> Iterator[Violation]:
    """What is wrong with a job's trackers by their text alone."""
    names: list[str] = []
    for index, tracker in enumerate(trackers):
        if tracker.kind is None:
            yield Violation(f"trackers[{index}]", f"names no tracker; accepted is {listed(KINDS, 'or')}")
            continue
        name = choice_name(tracker.kind)
        where = f"trackers[{index}].{name}"
        if name in names:
            yield Violation(where, "stands there twice; accepted is each tracker once")
        names.append(name)
        for field, text in _of(tracker.kind):
            yield Violation(f"{where}.{field}", text)


def _of(kind: Kind) -> Iterator[tuple[str, str]]:
    match kind:
        case Mlflow(tracking_uri=None):
            yield "tracking_uri", "is missing; accepted is the server's http or https address"
        case Wandb(offline=True):
            for field in ("base_url", "api_key_secret"):
                if getattr(kind, field) is not None:
                    yield field, "is given, but offline runs send nothing; leave it out"
        case Wandb(api_key_secret=None):
            yield "api_key_secret", "is missing; accepted is the name of a secret of the host, or offline: true"
