"""What a job has measured, all at once: as rows, as a pandas frame, and as a chart in a notebook. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftclient.events import EvaluationMetrics, Event, StepMetrics

if TYPE_CHECKING:
    import pandas as pd

_OF_STEP = (
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "step_seconds",
    "peak_memory_bytes",
)


def figures(event: Event) -> Mapping[str, float | None]:
    """What an update or an evaluation measured, by name: of an evaluation with eval_ before it. Of others nothing."""
    match event.kind:
        case StepMetrics() as step:
            return {name: getattr(step, name) for name in _OF_STEP} | dict(step.extra)
        case EvaluationMetrics() as evaluation:
            found = {"loss": evaluation.loss, **evaluation.extra}
            return {"epoch": evaluation.epoch} | {f"eval_{name}": value for name, value in found.items()}
    return {}


@dataclass(frozen=True, slots=True)
class History:
    """The events of a job up to a moment. In a notebook it shows itself as a chart of the loss."""

    job: str
    events: tuple[Event, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each update and each evaluation as they came; what is of an evaluation begins with eval_.

        An update that was made again after a checkpoint is there again, with its own `attempt`.
        """
        return [row for row in map(_row, self.events) if row]

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame, by `seq`. Raises ImportError without pandas: `finetuned[pandas]` has it."""
        import pandas as pd

        rows = self.rows
        frame = pd.DataFrame(rows, columns=list(dict.fromkeys(name for row in rows for name in row)) or ["seq"])
        return frame.set_index("seq")

    def _repr_html_(self) -> str:
        from ftclient.notebook import chart

        return chart(self.job, self.rows)


def _row(event: Event) -> dict[str, Any]:
    if not isinstance(event.kind, StepMetrics | EvaluationMetrics):
        return {}
    place = {"seq": event.seq, "time": event.time, "attempt": event.attempt, "step": event.kind.step}
    return {**place, **figures(event)}
