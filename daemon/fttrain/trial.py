"""A trial of a training: a few updates on its longest rows and one evaluation batch, to see what it needs.

The optimizer's states come with the first update, so the second one has the peak of all. It must never leave anything
behind, and never say of its updates that they were the job's.
"""

from __future__ import annotations

import numpy
from datasets import Dataset

from finetuned.v1 import training_pb2
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
    short.batch.global_batch = spec.batch.micro_batch * ranks * min(PARTS, parts(spec, ranks))
    short.checkpoints.cadence = training_pb2.CADENCE_NEVER
    if spec.evaluation.cadence != training_pb2.CADENCE_NEVER:
        short.evaluation.cadence = training_pb2.CADENCE_STEPS
        short.evaluation.every_steps = STEPS
    return short


def longest(rows: Rows, spec: training_pb2.TrainingSpec, ranks: int) -> Rows:
    """The longest rows there are, as often as the trial needs them, and one evaluation batch of the longest."""
    batch = spec.batch.micro_batch * ranks
    evaluated = (spec.evaluation.micro_batch or spec.batch.micro_batch) * ranks
    train = _longest(rows.train, batch, STEPS * min(PARTS, parts(spec, ranks)))
    return Rows(train, _longest(rows.eval, evaluated, 1) if rows.eval else None, rows.report)


def share(rows: Rows, spec: training_pb2.TrainingSpec, ranks: int) -> float:
    """How much longer an update of the training takes than one of the trial: more parts, and shorter ones."""
    found, batch = lengths(rows.train), spec.batch.micro_batch
    whole = len(found) // batch * batch
    padded = found[:whole].reshape(-1, batch).max(axis=1).mean() if whole else found.max()
    return parts(spec, ranks) / min(PARTS, parts(spec, ranks)) * float(padded / found.max())


def parts(spec: training_pb2.TrainingSpec, ranks: int) -> int:
    """Forward passes of an update on each device."""
    return int(spec.batch.global_batch // (spec.batch.micro_batch * ranks))


def _longest(dataset: Dataset, batch: int, times: int) -> Dataset:
    order = numpy.argsort(-lengths(dataset), kind="stable")[:batch]
    # A batch is filled even if there are fewer rows than that.
    return dataset.select(numpy.resize(order, batch * times))
