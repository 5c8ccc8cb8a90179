"""Our ears and hands inside the training loop: metrics out, checkpoints sealed, a stop request heard.

The trainer calls them with floats at the end of each update; nothing is ever parsed from its prints. They must not slow
the loop: one small write per update, and three small collectives where there are several ranks.
"""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import checkpoints, machine
from fttrain.failure import Refused
from fttrain.manifest import spec_digest
from fttrain.rank import stops
from fttrain.report import Report

# What StepMetrics has fields for, and the speeds that transformers counts from the run's start.
_OWN_FIELDS = {"loss", "grad_norm", "learning_rate", "epoch", "num_tokens", "num_input_tokens_seen"}


def _is_extra(name: str) -> bool:
    return name not in _OWN_FIELDS and not name.startswith("train_")


class Evaluating(TrainerCallback):  # type: ignore[misc]
    """Reports how far an evaluation is."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._evaluated_batches = 0

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, eval_dataloader: Any, **_: Any
    ) -> None:
        """One batch of an evaluation is done; each tenth of it is told."""
        batches = len(eval_dataloader)
        done, self._evaluated_batches = self._evaluated_batches, self._evaluated_batches + 1
        if done == 0 or done * 10 // batches != self._evaluated_batches * 10 // batches:
            self._report.phase(event_pb2.PHASE_EVALUATING, self._evaluated_batches / batches)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The evaluation of one set is done."""
        self._evaluated_batches = 0


class Metrics(Evaluating):
    """Reports each update and the phase the loop is in. Raises Refused when the loss diverges."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self._tokens = 0
        self._mark = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """The attempt has started."""
        trainable, parameters = count_parameters(model)
        self._tokens = state.num_input_tokens_seen
        started = event_pb2.AttemptStarted(
            first_step=state.global_step,
            total_steps=state.max_steps,
            world_size=args.world_size,
            trainable_parameters=trainable,
            parameters=parameters,
        )
        self._report.started(started)
        self._back_to_training()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        """One update is done, when the log carries its loss; evaluations and the final summary carry none."""
        if "loss" not in logs:
            return
        seconds = time.monotonic() - self._mark
        new_tokens = state.num_input_tokens_seen - self._tokens
        metrics = event_pb2.StepMetrics(
            step=state.global_step,
            epoch=state.epoch,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens=state.num_input_tokens_seen,
            tokens_per_second=new_tokens / seconds,
            step_seconds=seconds,
            peak_memory_bytes=int(machine.highest([machine.peak_memory_bytes()], args.device)[0]),
            extra={k: v for k, v in logs.items() if _is_extra(k) and v is not None},
        )
        self._report.step(metrics)
        self._tokens = state.num_input_tokens_seen
        self._mark = time.monotonic()
        if not math.isfinite(metrics.loss):
            raise Refused(
                event_pb2.FAILURE_CLASS_LOSS_DIVERGED, f"the loss became {metrics.loss} at step {metrics.step}"
            )

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The evaluation of one set is done, and the training goes on."""
        super().on_evaluate(args, state, control)
        self._back_to_training()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A checkpoint was saved; the time it took is nobody's step."""
        self._back_to_training()

    def _back_to_training(self) -> None:
        self._report.phase(event_pb2.PHASE_TRAINING)
        self._mark = time.monotonic()


class Sealing(TrainerCallback):  # type: ignore[misc]
    """Makes each saved checkpoint a complete one: manifest last, then the oldest ones go, but the best."""

    def __init__(self, report: Report, bootstrap: trainer_pb2.Bootstrap) -> None:
        self._report = report
        self._folder = checkpoints.folder(bootstrap)
        self._job_id = bootstrap.job_id
        self._spec_digest = spec_digest(bootstrap.spec)
        self._row_order = checkpoints.row_order(bootstrap)
        self._keep = bootstrap.spec.checkpoints.keep
        self._keeps_best = bootstrap.spec.checkpoints.keep_best

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """All ranks have written their part, and rank 0 seals it."""
        machine.wait_for_all_ranks()
        if state.is_world_process_zero:
            saved = checkpoints.seal(self._folder, state.global_step, self._job_id, self._spec_digest, self._row_order)
            best = state.best_global_step if self._keeps_best else None
            checkpoints.prune(self._folder, self._keep, best)
            self._report.checkpoint(saved)


class EvaluationStopped(Exception):
    """An evaluation was left between two of its batches. The trainer catches it and goes on to the end of the loop."""


class Stopping(TrainerCallback):  # type: ignore[misc]
    """Ends the loop at the end of the step in which any rank was asked to. Comes last: it overrules the cadences."""

    def __init__(self) -> None:
        self.stopped = False
        # What it has learned becomes its output.
        self.keeps = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Asks, all ranks together; after the last step there is nothing to stop."""
        if machine.highest([stops.take_checkpoint()], args.device)[0]:
            control.should_save = True
        if state.global_step < state.max_steps:
            self._ask(args, control)

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """An evaluation may take longer than anybody waits: it is left. Its step is done, and is what is saved."""
        if self._ask(args, control):
            raise EvaluationStopped

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The epoch did not end, it was cut: its evaluation and its checkpoint are not due."""
        if self.stopped:
            control.should_save = control.should_evaluate = False

    def _ask(self, args: TrainingArguments, control: TrainerControl) -> bool:
        asked, save, keep = machine.highest(
            [stops.asked, stops.asked and stops.save, stops.asked and stops.keep], args.device
        )
        if asked:
            self.stopped, self.keeps = True, bool(keep)
            control.should_training_stop = True
            control.should_save = bool(save)
            control.should_evaluate = False
        return bool(asked)


def count_parameters(model: Any) -> tuple[int, int]:
    """Trained parameters and all parameters; a 4-bit weight counts as what it stands for."""
    if hasattr(model, "get_nb_trainable_parameters"):
        trainable, parameters = model.get_nb_trainable_parameters()
        return trainable, parameters
    return model.num_parameters(only_trainable=True), model.num_parameters()
