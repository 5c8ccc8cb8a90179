"""A trial of a training: a few updates on its longest rows and one evaluation batch, to see what it needs.

The optimizer's states come with the first update, so the second one has the peak of all. It must never leave anything
behind, and never say of its updates that they were the job's.
"""

from __future__ import annotations

import numpy
from datasets import Dataset

from finetuned.v1 import data_report_pb2, training_pb2
from fttrain.data.asking import STAGES
from fttrain.rows import Rows, lengths

STEPS = 3
# With one part there are no gradients beside the activations; with two there are, as with many.
PARTS = 2


def shortened(spec: training_pb2.TrainingSpec, ranks: int) -> training_pb2.TrainingSpec:
    """The same step, as few times as is enough."""
    short = training_pb2.TrainingSpec()
    short.CopyFrom(spec)
    short.schedule.ClearField("epochs")
    short.schedule.max_steps = STEPS
    short.batch.global_batch = spec.batch.micro_batch * ranks * _tried(spec, ranks)
    short.checkpoints.cadence = training_pb2.CADENCE_NEVER
    if spec.evaluation.cadence != training_pb2.CADENCE_NEVER:
        short.evaluation.cadence = training_pb2.CADENCE_STEPS
        short.evaluation.every_steps = STEPS
    return short


def longest(rows: Rows, spec: training_pb2.TrainingSpec, ranks: int) -> Rows:
    """The longest rows there are, as often as the trial needs them, and one evaluation batch of the longest."""
    batch = spec.batch.micro_batch * ranks
    evaluated = (spec.evaluation.micro_batch or spec.batch.micro_batch) * ranks
    train = _longest(rows.train, batch, STEPS * _tried(spec, ranks))
    if not rows.eval:
        return Rows(train, None, rows.report)
    report = data_report_pb2.DataReport()
    report.CopyFrom(rows.report)
    del report.evaluation_sets[:]
    report.evaluation_sets.add(name="trial", rows=evaluated)
    return Rows(train, _longest(rows.eval, evaluated, 1), report)


def share(rows: Rows, spec: training_pb2.TrainingSpec, ranks: int) -> float:
    """How much longer an update of the training takes than one of the trial: more parts, and shorter ones."""
    # Rows that stand together are as long as the longest of them, unless there is no padding.
    found, batch = lengths(rows.train), 1 if spec.compute.padding_free else spec.batch.micro_batch
    whole = len(found) // batch * batch
    padded = found[:whole].reshape(-1, batch).max(axis=1).mean() if whole else found.max()
    return parts(spec, ranks) / _tried(spec, ranks) * float(padded / found.max())


def parts(spec: training_pb2.TrainingSpec, ranks: int) -> int:
    """Forward passes of an update on each device."""
    return int(spec.batch.global_batch // (spec.batch.micro_batch * ranks))


def _tried(spec: training_pb2.TrainingSpec, ranks: int) -> int:
    """Parts of an update of the trial: all, where the answers to all its prompts are written at once."""
    whole = parts(spec, ranks)
    return whole if spec.WhichOneof("stage") in STAGES else min(PARTS, whole)


def _longest(dataset: Dataset, batch: int, times: int) -> Dataset:
    order = numpy.argsort(-lengths(dataset), kind="stable")[:batch]
    # A batch is filled even if there are fewer rows than that.
    return dataset.select(numpy.resize(order, batch * times))
