"""Goes on from a checkpoint of another job: with its weights and its optimizer's state, in the new job's own schedule.

On the same rows in the same order the updates and passes are counted on. On others they begin anew. It must never take
learning rates or other settings from the checkpoint: those are the spec's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import checkpoints
from fttrain.failure import Refused
from fttrain.report import Report


def join(bootstrap: trainer_pb2.Bootstrap, trainer: Any, report: Report) -> None:
    """Trains from the checkpoint that the spec names. Raises Refused when it is not whole or nothing is left to do."""
    path = Path(bootstrap.spec.resume.path)
    found = checkpoints.verified(path)
    if (path / "adapter_config.json").exists() != hasattr(trainer.model, "peft_config"):
        raise _other_training(path.name)
    counts_on = found.row_order == checkpoints.row_order(bootstrap)
    report.joined = event_pb2.Join(job=found.job_id, step=found.step, counts_on=counts_on)
    if counts_on:
        _check_left(trainer, found.step)
        report.notice(f"goes on from step {found.step} of job {found.job_id}, on the same rows in the same order")
        # Called with the checkpoint as soon as there are an optimizer and a schedule.
        trainer._load_optimizer_and_scheduler = lambda checkpoint: _take_states(trainer, Path(checkpoint), found.step)
        trainer.train(resume_from_checkpoint=str(path))
        return
    report.notice(
        f"goes on with the weights and the optimizer of step {found.step} of job {found.job_id}; the rows or their "
        "order are others, so updates, passes and the learning rate begin anew"
    )
    trainer._load_from_checkpoint(str(path))
    trainer.add_callback(_Warm(trainer, path))
    trainer.train()


class _Warm(TrainerCallback):  # type: ignore[misc]
    """Gives a new optimizer the state of another one before its first update."""

    def __init__(self, trainer: Any, checkpoint: Path) -> None:
        self._trainer = trainer
        self._checkpoint = checkpoint

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """There is an optimizer now."""
        _take_states(self._trainer, self._checkpoint, 0)


def _take_states(trainer: Any, checkpoint: Path, step: int) -> None:
    """The optimizer's averages as they were; its settings and the schedule as this spec has them, at `step`."""
    ours = trainer.optimizer.state_dict()["param_groups"]
    theirs = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    if [len(group["params"]) for group in ours] != [len(group["params"]) for group in theirs["param_groups"]]:
        raise _other_training(checkpoint.name)
    trainer.optimizer.load_state_dict({"state": theirs["state"], "param_groups": ours})
    schedule = getattr(trainer.lr_scheduler, "scheduler", trainer.lr_scheduler)
    rates = [factor(step) * base for factor, base in zip(schedule.lr_lambdas, schedule.base_lrs, strict=True)]
    schedule.last_epoch, schedule._step_count, schedule._last_lr = step, step + 1, rates
    for group, rate in zip(trainer.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _other_training(name: str) -> Refused:
    return Refused(
        event_pb2.FAILURE_CLASS_MODEL_LOAD,
        f"{name} is of a training that moves other parameters than this one",
        "resume with the model, the method and the optimizer of the job that saved it",
    )


def _check_left(trainer: Any, step: int) -> None:
    *_, total = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    if step >= total:
        raise Refused(
            event_pb2.FAILURE_CLASS_INTERNAL,
            f"the checkpoint is of step {step}, and this training has {total} updates in all: nothing is left to do",
            "raise schedule.epochs or schedule.max_steps, which count from the beginning of the job that saved it",
        )
