"""From a resolved training to the memory it needs: says to `ftsched.estimate` what the spec means. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftd.records import MemoryEstimate, MemoryTerm
from ftd.spec import Cadence, Dpo, Dtype, Freeze, Lora, Method, Pretrain, Qlora, QuantType, Stage, TrainingSpec
from ftsched import estimate as arithmetic
from ftsched import workload
from ftsched.fixes import Fix, cheapest_fixes
from ftsched.pace import token_operations
from ftsched.shapes import shape_of
from ftsched.storage import disk_bytes

# Beside what it trains in: the interpreter, the libraries, the driver's share, rows that are read.
_HOST_BYTES = 4 * 2**30
_BYTES = {Dtype.FP32: 4, Dtype.BF16: 2, Dtype.FP16: 2}


def estimate(
    training: TrainingSpec, config: Mapping[str, Any], sequence_length: int, parameters: int = 0
) -> MemoryEstimate:
    """Memory per device for sequences of at most `sequence_length` tokens; what the spec itself asks for comes first.

    `config` is the model's config.json, unused if the spec says `memory_bytes`; `parameters` are the model's, if
    somebody counted them. Raises ftsched.shapes.NotAModel if the config does not describe a decoder.
    """
    given = training.resources.memory_bytes
    if given is not None:
        terms = (MemoryTerm("given in the spec", given),)
        return MemoryEstimate(terms, given, given, "", 0.0, sequence_length, "given in the spec")
    work, shape = workload_of(training, sequence_length), shape_of(config, parameters)
    found = arithmetic.estimate_shape(work, shape)
    return MemoryEstimate(
        terms=tuple(MemoryTerm(term.name, term.bytes, term.note) for term in found.terms),
        peak_bytes=found.peak_bytes,
        reserve_bytes=found.reserve_bytes,
        peak_moment=found.moment,
        uncertainty=found.uncertainty,
        sequence_length=sequence_length,
        basis=found.basis,
        host_bytes=_HOST_BYTES * work.gpus if work.device == "gpu" else 0,
        disk_bytes=disk_bytes(work, shape, training.checkpoints.keep or 1),
        token_operations=token_operations(work, shape),
    )


def fixes(training: TrainingSpec, config: Mapping[str, Any], sequence_length: int, fits_bytes: int) -> tuple[Fix, ...]:
    """What would make the training fit into so many bytes, the cheapest first; nothing if the spec says its memory."""
    if training.resources.memory_bytes is not None:
        return ()
    return cheapest_fixes(workload_of(training, sequence_length), shape_of(config), fits_bytes)


def workload_of(training: TrainingSpec, sequence: int) -> workload.Workload:
    """What a resolved training does with rows of at most `sequence` tokens."""
    batch, resources = training.batch, training.resources
    gpus = resources.gpus or 1
    micro_batch = batch.micro_batch or 1
    adapter, quantised = _adapter(training.method), training.method if isinstance(training.method, Qlora) else None
    evaluates = training.evaluation.cadence not in (None, Cadence.NEVER)
    # The trainers leave arithmetic in 16 bits to autocast, whatever the weights are.
    autocast = training.compute.precision in (Dtype.BF16, Dtype.FP16)
    return workload.Workload(
        stage=_stage(training.stage),
        method=_method(training.method),
        device="gpu" if resources.device == "gpu" else "cpu",
        gpus=gpus,
        weight_bytes=_BYTES[training.model.dtype or Dtype.FP32],
        autocast=autocast,
        micro_batch=micro_batch,
        sequence=sequence,
        accumulates=(batch.global_batch or 0) > micro_batch * gpus,
        recompute=bool(training.compute.gradient_checkpointing),
        optimizer=training.optimizer.name or "",
        attention=str(training.model.attention),
        packed=bool(training.data.packing),
        eval_micro_batch=training.evaluation.micro_batch or micro_batch if evaluates else 0,
        # PEFT makes adapters fp32; TRL makes those on 4-bit weights 16 bit where the arithmetic is.
        adapter_bytes=2 if quantised and autocast else 4,
        rank=adapter.rank or 0,
        targets=adapter.target_modules,
        dropout=bool(adapter.dropout),
        dora=bool(adapter.dora),
        saved_modules=len(adapter.modules_to_save),
        quantization="fp4" if quantised and quantised.quant_type is QuantType.FP4 else "nf4",
        double_quant=bool(quantised.double_quant) if quantised else True,
        trained_layers=(training.method.trainable_layers or 0) if isinstance(training.method, Freeze) else 0,
    )


def _adapter(method: Method | None) -> Lora:
    if isinstance(method, Qlora):
        method = method.lora
    return method if isinstance(method, Lora) else Lora()


def _stage(stage: Stage | None) -> workload.Stage:
    match stage:
        case Dpo():
            return "dpo"
        case Pretrain():
            return "pretrain"
        case _:
            return "sft"


def _method(method: Method | None) -> workload.Method:
    match method:
        case Lora():
            return "lora"
        case Qlora():
            return "qlora"
        case Freeze():
            return "freeze"
        case _:
            return "full"
