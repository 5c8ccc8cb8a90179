"""What measured runs do to an estimate: seen in its terms, and never less than was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftd import memory
from ftd.measured import Measurement
from ftd.methods import Lora
from ftd.records import MemoryEstimate
from ftd.spec import Batch, Compute, DeviceKind, Dtype, Evaluation, Model, Optimizer, Resources, TrainingSpec
from ftd.stages import Sft

GIB = 2**30
CONFIG = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}
UNKNOWN = {**CONFIG, "model_type": "novel"}
TRAINING = TrainingSpec(
    model=Model(dtype=Dtype.BF16),
    stage=Sft(),
    method=Lora(rank=16, target_modules=("all-linear",)),
    batch=Batch(4, 8),
    optimizer=Optimizer(name="adamw_torch_fused"),
    compute=Compute(Dtype.BF16, gradient_checkpointing=True),
    evaluation=Evaluation(),
    resources=Resources(device=DeviceKind.GPU, gpus=1),
)


def run(peak: int, training: TrainingSpec = TRAINING, *, out_of_memory: bool = False) -> Measurement:
    subject = memory.subject(training, CONFIG, 2048)
    estimated = memory.arithmetic_peak(training, CONFIG, 2048)
    return Measurement(subject, estimated, peak, out_of_memory, 1.0, 1.0, "H100", 0.0)


def estimate(*runs: Measurement, training: TrainingSpec = TRAINING) -> MemoryEstimate:
    found = memory.estimate(training, CONFIG, 2048, runs=runs)
    assert sum(term.bytes for term in found.terms) == found.reserve_bytes
    assert all(term.bytes >= 0 for term in found.terms)
    return found


def test_more_than_estimated_is_a_term_of_its_own() -> None:
    before = estimate()
    after = estimate(run(before.peak_bytes + GIB))
    assert after.peak_bytes == before.peak_bytes + GIB
    assert after.reserve_bytes > before.reserve_bytes + GIB
    learned = next(term for term in after.terms if term.name == "learned correction")
    assert learned.bytes == GIB
    assert learned.note


def test_no_estimate_is_less_than_what_was_measured() -> None:
    before = estimate()
    peaks = [before.peak_bytes + GIB, before.peak_bytes // 2, before.peak_bytes // 2, before.peak_bytes // 2]
    assert estimate(*map(run, peaks)).peak_bytes == before.peak_bytes + GIB


def test_runs_that_agree_on_less_are_believed() -> None:
    before = estimate()
    less = before.peak_bytes - GIB
    after = estimate(run(less), run(less), run(less))
    assert after.peak_bytes == less
    assert "agree" in next(term for term in after.terms if term.name == "learned correction").note


def test_running_out_of_memory_never_teaches_that_less_is_enough() -> None:
    before = estimate()
    less = before.peak_bytes - GIB
    assert estimate(*[run(less, out_of_memory=True)] * 3) == before
    more = estimate(run(before.peak_bytes + GIB, out_of_memory=True))
    assert more.peak_bytes == before.peak_bytes + GIB


def test_another_shape_of_the_model_teaches_how_far_the_arithmetic_is_off() -> None:
    before = estimate()
    small = replace(TRAINING, batch=Batch(1, 8))
    half_more = int(1.5 * memory.arithmetic_peak(small, CONFIG, 2048))
    assert estimate(run(half_more, small)).peak_bytes == pytest.approx(1.5 * before.peak_bytes, rel=1e-6)


def test_a_measured_shape_of_an_unknown_model_is_less_uncertain() -> None:
    before = memory.estimate(TRAINING, UNKNOWN, 2048)
    measured = Measurement(memory.subject(TRAINING, UNKNOWN, 2048), before.peak_bytes, 5, False, 1.0, 1.0, "H100", 0.0)
    after = memory.estimate(TRAINING, UNKNOWN, 2048, runs=[measured])
    assert (before.uncertainty, after.uncertainty) == (0.35, 0.05)
    assert after.peak_bytes == before.peak_bytes
    assert after.reserve_bytes < before.reserve_bytes


def test_a_trial_takes_the_place_of_the_arithmetic() -> None:
    before = memory.estimate(TRAINING, UNKNOWN, 2048)
    after = memory.by_trial(TRAINING, before, 10 * GIB)
    # 1.05 x peak + 0.25 GiB + context
    assert after.reserve_bytes == int(10.5 * GIB) + GIB // 4 + int(0.9 * GIB)
    assert [term.name for term in after.terms] == ["measured peak", "context", "margin"]
    given = replace(TRAINING, resources=Resources(device=DeviceKind.GPU, memory_bytes=GIB))
    stated = memory.estimate(given, UNKNOWN, 2048)
    assert memory.by_trial(given, stated, 10 * GIB) is stated


def test_what_a_process_holds_anyway_is_no_part_of_a_peak() -> None:
    assert memory.besides_context(TRAINING, 3 * GIB) == 3 * GIB
    on_cpu = replace(TRAINING, resources=Resources(device=DeviceKind.CPU))
    assert memory.besides_context(on_cpu, 3 * GIB) == 3 * GIB // 2
    assert memory.besides_context(on_cpu, GIB) == 0
