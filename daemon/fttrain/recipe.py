"""The story of a training, from the Bootstrap to the finished output; it reads from top to bottom.

Stages and methods are looked up in their registries, so a new one needs no change here. It must never apply a default
of its own: the resolved spec says everything.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import PrinterCallback, TrainerState

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2
from fttrain import (
    adapters,
    attention,
    checkpoints,
    joining,
    machine,
    methods,
    origins,
    output,
    sharding,
    stages,
    trainer_log,
    trial,
)
from fttrain.callbacks import Metrics, Sealing, Stopping
from fttrain.model import load_frozen, load_model, load_tokenizer
from fttrain.rank import attempt_folder, number, stops
from fttrain.report import Report
from fttrain.rows import Rows
from fttrain.trainer_log import TrainerLog


def train(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Trains and writes the output, or stops where it is asked to. Raises Refused and whatever the libraries raise."""
    machine.set_up(bootstrap)
    if bootstrap.probe:
        return try_out(bootstrap, report)
    resume = checkpoints.to_resume(bootstrap)
    if number() == 0:
        checkpoints.discard_unused(checkpoints.folder(bootstrap), resume)
    rows = load_rows(bootstrap)
    trainer, stopping = build_trainer(bootstrap, rows, report)
    output.check(bootstrap, trainer.accelerator.unwrap_model(trainer.model).config, trainer.processing_class)
    if stops.asked:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)

    report.follow(TrainerLog(Path(bootstrap.run_directory) / trainer_log.NAME).take)
    with machine.measured(report):
        if resume is None and bootstrap.spec.HasField("resume"):
            joining.join(bootstrap, trainer, report)
        else:
            run_loop(trainer, resume)
    early = not is_complete(trainer, trainer.state)
    if (stopping.stopped or early) and not stopping.keeps:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)

    report.phase(event_pb2.PHASE_EXPORTING)
    take_best_weights(bootstrap, trainer, report)
    weights = sharding.whole_weights(bootstrap.spec, trainer)
    if number() == 0:
        output.write(bootstrap, trainer, rows, weights)
        output.push(bootstrap, report)
    machine.wait_for_all_ranks()
    word = trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)
    if early:
        word.stopped_at, word.stopped_of = trainer.state.global_step, trainer.state.max_steps
    return word


def try_out(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Measures what a step of the training needs, and keeps nothing."""
    spec, ranks = bootstrap.spec, machine.world_size()
    rows = load_rows(bootstrap)
    report.share = trial.share(rows, spec, ranks)
    short = trainer_pb2.Bootstrap()
    short.CopyFrom(bootstrap)
    short.spec.CopyFrom(trial.shortened(spec, ranks))
    report.notice(f"trying out {trial.STEPS} updates on the longest rows, to measure memory and time")
    trainer, stopping = build_trainer(short, trial.longest(rows, spec, ranks), report)
    with machine.measured(report):
        trainer.train()
    if stopping.stopped:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
    peak = report.peak_memory_bytes / 2**30
    report.notice(f"the trial needed {peak:.2f} GiB; an update will take about {report.step_seconds:.3g} s")
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)


def load_rows(bootstrap: trainer_pb2.Bootstrap) -> Rows:
    """The prepared rows, packed where the spec asks for it."""
    rows = Rows.load(Path(bootstrap.prepared_directory))
    if not bootstrap.spec.data.packing:
        return rows
    scratch = attempt_folder(bootstrap) / f"packed-{number()}.arrow"
    return rows.packed(bootstrap.spec.data.max_length, scratch)


def build_trainer(bootstrap: trainer_pb2.Bootstrap, rows: Rows, report: Report) -> tuple[Any, Stopping]:
    """A TRL trainer for the spec with our callbacks, not yet started, and the callback that hears a stop."""
    spec = bootstrap.spec
    stage, method = stages.of(spec), methods.of(spec)
    adapter, quantization = method.adapter(spec), method.quantization(spec)
    model = load_model(bootstrap, quantization)
    method.choose_parameters(spec, model)
    last = origins.continued(spec)
    parts = stages.Parts(
        spec=spec,
        model=adapters.go_on(model, last, adapter.lora_dropout) if last and isinstance(adapter, LoraConfig) else model,
        reference=load_reference(bootstrap, quantization, as_it_was=stages.compares(spec) and not adapter),
        adapter=adapter,
        tokenizer=load_tokenizer(bootstrap),
        rows=rows,
        checkpoints=checkpoints.folder(bootstrap),
        report=report,
        frozen=partial(load_frozen, bootstrap),
    )
    if spec.compute.padding_free:
        leave_out_padding(parts)
    trainer = stage.build(parts)
    sharding.check(spec, trainer)
    method.settle_dtype(spec, trainer.model)
    method.settle(spec, trainer)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Sealing(report, bootstrap))
    trainer.add_callback(Metrics(report))
    stopping = Stopping()
    trainer.add_callback(stopping)
    return trainer, stopping


def leave_out_padding(parts: stages.Parts) -> None:
    """Has the models run without padding; one that cannot keeps it, and the job says why."""
    # Dropout would be another in the second answer's prompt.
    pairs = parts.spec.WhichOneof("stage") in stages.PAIRED and parts.disables_dropout
    for model in filter(None, (parts.model, parts.reference)):
        if reason := attention.why_not(model):
            parts.report.notice(f"the rows of a batch are padded to one length: {reason}")
        else:
            attention.remove_padding(model, pairs=pairs)


def load_reference(bootstrap: trainer_pb2.Bootstrap, quantization: Any, *, as_it_was: bool) -> Any | None:
    """The frozen model that a preference loss compares with: the one of the spec, or the model `as_it_was`."""
    spec = bootstrap.spec
    if not spec.dpo.HasField("reference"):
        return load_model(bootstrap, quantization) if as_it_was else None
    return load_frozen(bootstrap, "dpo.reference", spec.dpo.reference)


def run_loop(trainer: Any, resume: Path | None) -> None:
    """The steps that are still to do."""
    if resume is None:
        trainer.train()
        return
    state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
    if not is_complete(trainer, state):
        trainer.train(resume_from_checkpoint=str(resume))
        return
    # The former attempt ended between its last step and its output. train() would do one step too many.
    trainer._load_from_checkpoint(str(resume))
    trainer.state = state


def is_complete(trainer: Any, state: TrainerState) -> bool:
    """Whether there is nothing left to train: all updates are done, or more of them brought no gain."""
    return state.global_step >= state.max_steps or bool(trainer.evaluations.ended_early(state))


def take_best_weights(bootstrap: trainer_pb2.Bootstrap, trainer: Any, report: Report) -> None:
    """Puts the weights of the best evaluation in place of the last ones, where the output is to have those."""
    if bootstrap.spec.output.weights != training_pb2.OUTPUT_WEIGHTS_BEST:
        return
    best = trainer.evaluations.verdict(trainer.state)
    if best is None:
        report.notice("nothing was evaluated before the training ended: the output has the last weights")
    elif best.step != trainer.state.global_step:
        trainer._load_from_checkpoint(str(checkpoints.best(bootstrap, best.step)))
        report.notice(f"the output has the weights of step {best.step}, the best by {bootstrap.spec.evaluation.metric}")
