"""Evaluates a model once, with the trainer and the figures that an evaluation in the middle of a training has.

The output is the figures as JSON, and what the model answered where the spec asks for it. It must never change a
weight, nor write one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import arguments, checkpoints, generation, machine, output, stages
from fttrain.callbacks import Evaluating, Stopping
from fttrain.model import load_adapted, load_frozen, load_tokenizer
from fttrain.rank import attempt_folder, stops
from fttrain.recipe import leave_out_padding
from fttrain.report import Report
from fttrain.rows import Rows
from fttrain.stages import sft

NAME = "evaluation.json"


def run(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Tells the figures and writes them. Raises Refused and whatever the libraries raise."""
    machine.set_up(bootstrap)
    trainer = _trainer(bootstrap, Rows.load(Path(bootstrap.prepared_directory)), report)
    report.phase(event_pb2.PHASE_EVALUATING)
    with machine.measured(report):
        figures = trainer.evaluate()
    if stops.asked:
        return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
    with output.appearing(bootstrap) as folder:
        told = {name.removeprefix("eval_"): value for name, value in figures.items()}
        (folder / NAME).write_text(json.dumps(told, indent=2) + "\n")
        if (answers := Path(bootstrap.run_directory) / generation.NAME).exists():
            shutil.copyfile(answers, folder / generation.NAME)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)


def _trainer(bootstrap: trainer_pb2.Bootstrap, rows: Rows, report: Report) -> Any:
    """That of supervised fine-tuning, which is never started."""
    parts = stages.Parts(
        spec=bootstrap.spec,
        model=load_adapted(bootstrap),
        reference=None,
        adapter=None,
        tokenizer=load_tokenizer(bootstrap),
        # TRL looks at the first row to train on.
        rows=replace(rows, train=rows.eval),
        checkpoints=checkpoints.folder(bootstrap),
        report=report,
        frozen=partial(load_frozen, bootstrap),
    )
    if bootstrap.spec.compute.padding_free:
        leave_out_padding(parts)
    trainer = sft.trainer(parts, arguments.evaluation(bootstrap.spec, attempt_folder(bootstrap)))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Evaluating(report))
    trainer.add_callback(Stopping())
    return trainer
