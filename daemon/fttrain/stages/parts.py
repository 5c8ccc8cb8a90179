"""What a stage is, what it builds its trainer from, and what all of our trainers do differently from TRL's.

None of the differences is arithmetic: a loss is computed by TRL alone. It must never know a single stage.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from peft import PeftConfig, PeftModel

from finetuned.v1 import event_pb2, training_pb2
from fttrain import checkpoints, updates
from fttrain.callbacks import EvaluationStopped
from fttrain.evaluation import Evaluations, Figures, sets_of
from fttrain.generation import Answers
from fttrain.report import Report
from fttrain.rows import ByLength, Rows, lengths

# What PEFT's methods call the dropout of an adapter.
_DROPOUTS = ("lora_dropout", "vera_dropout", "module_dropout", "boft_dropout")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer is built from."""

    spec: training_pb2.TrainingSpec
    model: Any
    # The frozen model a preference loss compares with; None where the model without its adapter is that.
    reference: Any | None
    adapter: PeftConfig | None
    tokenizer: Any
    rows: Rows
    checkpoints: Path
    report: Report
    # Loads a model that is not trained: of a field, by its path, its weights; `scores`: as a reward model.
    frozen: Callable[..., Any]

    @property
    def disables_dropout(self) -> bool:
        """Whether TRL turns dropout off: it would turn off the adapter's too, where the spec asks for that."""
        return not any(getattr(self.adapter, name, 0) for name in _DROPOUTS)

    def for_trainer(self, taken: Callable[[Any], Any] = lambda rows: rows) -> dict[str, Any]:
        """Arguments that every trainer of ours takes. `taken` makes of prepared rows what this one takes."""
        evaluated = self.spec.evaluation.cadence != training_pb2.CADENCE_NEVER
        sets = {name: taken(rows) for name, rows in sets_of(self.rows)} if evaluated else {}
        return {
            "report": self.report,
            "schedule": self.spec.schedule,
            "evaluations": Evaluations(self.spec, sets, self.report),
            "answers": self._answers(),
            "sampler": self._sampler(),
            "model": self.model,
            "processing_class": self.tokenizer,
            "train_dataset": taken(self.rows.train),
            # Each set is evaluated by itself; this only says that there is something.
            "eval_dataset": next(iter(sets.values()), None),
            # An adapter that is trained on is on the model already.
            "peft_config": None if isinstance(self.model, PeftModel) else self.adapter,
        }

    def _sampler(self) -> ByLength | None:
        """The order of the rows, where it goes by their lengths."""
        if not self.spec.batch.group_by_length:
            return None
        return ByLength(lengths(self.rows.train), self.spec.batch.global_batch, self.spec.seed)

    def _answers(self) -> Answers | None:
        """The answers to evaluation rows, where they are asked for."""
        if not self.spec.evaluation.HasField("generation"):
            return None
        sets = dict(sets_of(self.rows))
        return Answers(self.spec, sets, self.tokenizer, self.report, self.checkpoints.parent)


class Stage(Protocol):
    """A training objective."""

    # Whether the loss compares with the model as it was before.
    needs_reference: bool

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""


class Ours:
    """Put before TRL's class in every trainer of ours."""

    def __init__(
        self,
        *,
        report: Report,
        evaluations: Evaluations,
        answers: Answers | None,
        sampler: ByLength | None = None,
        schedule: training_pb2.Schedule,
        **parts: Any,
    ) -> None:
        self._report = report
        self.evaluations = evaluations
        self._answers = answers
        self._sampler = sampler
        self._schedule = schedule
        super().__init__(**parts)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule, with what depends on the number of updates."""
        trainer: Any = self
        trainer.args.lr_scheduler_kwargs |= updates.once_known(self._schedule, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No draft beside the checkpoints: the card is written once, with the output."""

    def train(self, resume_from_checkpoint: Any = None, **kwargs: Any) -> Any:
        """Trains; what the model answers before it has learnt anything is told first."""
        if self._answers and not resume_from_checkpoint:
            # A training that is asked to stop meanwhile does so in its first step.
            with contextlib.suppress(EvaluationStopped):
                self._answers.before(self)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)  # type: ignore[misc]

    def evaluate(self, *_args: Any, **_kwargs: Any) -> Figures:
        """Evaluates each set, tells the figures and what follows from them. One that was stopped has none."""
        trainer: Any = self
        logged, started = len(trainer.state.log_history), time.monotonic()
        try:
            scored, written = self._answers.after(trainer) if self._answers else ({}, [])
            evaluate = super().evaluate  # type: ignore[misc]
            found = {name: evaluate(rows) for name, rows in self.evaluations.sets.items()}
        except EvaluationStopped:
            return self.evaluations.nothing()
        finally:
            # The log has one entry for an evaluation, whatever the number of sets.
            del trainer.state.log_history[logged:]
        figures = self.evaluations.joined(found) | scored
        self.evaluations.tell(trainer.state, trainer.control, figures, time.monotonic() - started)
        if self._answers:
            self._answers.keep(trainer, written)
        return self.evaluations.as_logged(figures)

    def _get_train_sampler(self, *given: Any) -> Any:
        return self._sampler or super()._get_train_sampler(*given)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._report.phase(event_pb2.PHASE_SAVING)
        trainer: Any = self
        checkpoints.reopen(Path(trainer.args.output_dir), trainer.state.global_step)
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]


class Prepared(Ours):
    """For a trainer that tokenises what it is given and has no switch for rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset
