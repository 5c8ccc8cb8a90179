"""From a resolved training to the memory it needs: tells `ftsched` what the spec means and what was measured. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ftd import adapters_told, records
from ftd.inference import Chat, Export, Inference
from ftd.measured import Measurement, Subject
from ftd.methods import Adalora, Freeze, Full, Lora, Method, Qlora, QuantType, Vera
from ftd.online import Distill, Grpo, Online, Ppo, Rewarded, Rloo
from ftd.origins import lora_of
from ftd.records import MemoryEstimate, MemoryTerm
from ftd.spec import Cadence, DeviceKind, Dtype, GgufType, Optimizer, Sharding, TrainingSpec, choice_name
from ftd.stages import Cpo, Dpo, Kto, Orpo, Pretrain, Reward, Stage
from ftsched import estimate as arithmetic
from ftsched import learned, workload
from ftsched.fixes import Fix, Setting, cheapest_fixes
from ftsched.pace import token_operations
from ftsched.shapes import shape_of
from ftsched.storage import disk_bytes

# Beside what it trains in: the interpreter, the libraries, the driver's share, rows that are read.
_HOST_BYTES = 4 * 2**30
_GGUF_BYTES = {GgufType.F32: 4.0, GgufType.F16: 2.0, GgufType.BF16: 2.0, GgufType.Q8_0: 34 / 32}
_SHARDINGS: dict[Sharding, workload.Sharding] = {
    Sharding.NO_SHARD: "ddp",
    # Parameters are whole at the peak, as with ZeRO's second stage.
    Sharding.SHARD_GRAD_OP: "zero2",
    Sharding.FULL_SHARD: "fsdp2",
}
_QUANTIZATIONS: dict[QuantType, workload.Quantization] = {
    QuantType.NF4: "nf4",
    QuantType.FP4: "fp4",
    QuantType.INT8: "int8",
}
_BYTES = {Dtype.FP32: 4, Dtype.BF16: 2, Dtype.FP16: 2}


def estimate(
    training: TrainingSpec,
    config: Mapping[str, Any],
    sequence_length: int,
    parameters: int = 0,
    runs: Sequence[Measurement] = (),
    beside: int = 0,
) -> MemoryEstimate:
    """Memory per device for sequences of at most `sequence_length` tokens; what the spec itself asks for comes first.

    `config` is the model's config.json, unused if the spec says `memory_bytes`; `parameters` are the model's, if
    somebody counted them, and `beside` those of the models that are loaded beside it; `runs` are those of the same
    model and method. Raises ftsched.shapes.NotAModel if the config
    does not describe a decoder.
    """
    given = training.resources.memory_bytes
    if given is not None:
        terms = (MemoryTerm("given in the spec", given),)
        return MemoryEstimate(terms, given, given, "", 0.0, sequence_length, "given in the spec")
    work, shape = workload_of(training, sequence_length, beside), shape_of(config, parameters)
    key = _key(learned.shape_key(work))
    found = learned.learn(arithmetic.estimate_shape(work, shape), key, _lessons(runs))
    made = shape.parameters * work.exported_weight_bytes
    # What is divided is loaded to the host first, by each rank.
    loaded = work.gpus * shape.parameters * work.weight_bytes if work.sharding != "ddp" else 0
    if any(run.subject.shape == key and run.peak_bytes and not run.out_of_memory for run in runs):
        found = _narrowed(found, work)
    return replace(
        _told(found, sequence_length),
        host_bytes=_HOST_BYTES * work.gpus + made + loaded if work.device == "gpu" else 0,
        disk_bytes=disk_bytes(work, shape, _kept(training), _exported(training)),
        token_operations=token_operations(work, shape),
    )


def subject(training: TrainingSpec, config: Mapping[str, Any], sequence_length: int, beside: int = 0) -> Subject:
    """What a run of this training measures. Raises ftsched.shapes.NotAModel."""
    work = workload_of(training, sequence_length, beside)
    return Subject(_key(repr(shape_of(config))), work.method, _key(learned.shape_key(work)))


def arithmetic_peak(training: TrainingSpec, config: Mapping[str, Any], sequence_length: int, beside: int = 0) -> int:
    """The peak by arithmetic alone, whatever the spec says and runs have taught. Raises ftsched.shapes.NotAModel."""
    return arithmetic.estimate_shape(workload_of(training, sequence_length, beside), shape_of(config)).peak_bytes


def by_trial(training: TrainingSpec, estimate: MemoryEstimate, peak_bytes: int) -> MemoryEstimate:
    """The estimate that rests on the peak of a trial; what the spec itself asks for stays."""
    if training.resources.memory_bytes is not None:
        return estimate
    uncertainty = _uncertainty(training.resources.device is DeviceKind.GPU)
    terms = (
        MemoryTerm("measured peak", peak_bytes, "in a trial of the longest rows"),
        *(term for term in estimate.terms if term.name == "context"),
        MemoryTerm("margin", arithmetic.margin_bytes(peak_bytes, uncertainty), "for what the trial did not see"),
    )
    return replace(
        estimate,
        terms=terms,
        peak_bytes=peak_bytes,
        reserve_bytes=sum(term.bytes for term in terms),
        uncertainty=uncertainty,
        basis="measured in a trial",
    )


def besides_context(training: TrainingSpec, measured_bytes: int) -> int:
    """A measured peak as the arithmetic means it: on a CPU the whole process was measured, 0 if nothing else was."""
    on_gpu = training.resources.device is DeviceKind.GPU
    return measured_bytes if on_gpu else max(0, measured_bytes - arithmetic.CPU_CONTEXT)


def _narrowed(found: arithmetic.Estimate, work: workload.Workload) -> arithmetic.Estimate:
    """A shape that was measured is known as well as the ones the arithmetic was measured with."""
    uncertainty = min(found.uncertainty, _uncertainty(work.device == "gpu"))
    margin = arithmetic.margin_bytes(found.peak_bytes, uncertainty)
    terms = tuple(replace(each, bytes=margin) if each.name == "margin" else each for each in found.terms)
    return replace(found, terms=terms, reserve_bytes=sum(each.bytes for each in terms), uncertainty=uncertainty)


def _uncertainty(on_gpu: bool) -> float:
    return arithmetic.MEASURED if on_gpu else arithmetic.ON_CPU


def _lessons(runs: Sequence[Measurement]) -> list[learned.Run]:
    """What the runs teach; one that ran out of memory may say that more is needed, but never that less is."""
    return [
        learned.Run(run.subject.shape, run.estimated_bytes, run.peak_bytes)
        for run in runs
        if not run.out_of_memory or run.peak_bytes > run.estimated_bytes
    ]


def _terms(found: arithmetic.Estimate) -> tuple[MemoryTerm, ...]:
    """The terms as the message has them, whose sizes are not negative: a correction downwards is taken off the peak."""
    terms = [MemoryTerm(term.name, term.bytes, term.note) for term in found.terms]
    less = -min(0, *(term.bytes for term in terms))
    if not less:
        return tuple(terms)
    terms[-1] = replace(terms[-1], bytes=0, note=f"{terms[-1].note}: {less} bytes less than the arithmetic says")
    for index, term in enumerate(terms):
        taken = min(term.bytes, less)
        terms[index], less = replace(term, bytes=term.bytes - taken), less - taken
    return tuple(terms)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fixes(
    training: TrainingSpec, config: Mapping[str, Any], sequence_length: int, fits_bytes: int, beside: int = 0
) -> tuple[Fix, ...]:
    """What would make the training fit into so many bytes, the cheapest first; nothing if the spec says its memory."""
    if training.resources.memory_bytes is not None:
        return ()
    return cheapest_fixes(workload_of(training, sequence_length, beside), shape_of(config), fits_bytes)


def told(fix: Fix, sequence_length: int) -> records.Fix:
    """A fix as clients see it: what to set in a JobSpec, and what the training would need then."""
    changes = dict(map(_change, fix.settings))
    return records.Fix(fix.change, changes, _told(fix.estimate, sequence_length))


def _change(setting: Setting) -> tuple[str, str]:
    """A setting as a path into JobSpec and its value. The method is a oneof there, so its member is set, as it is."""
    if setting.field == "method":
        return f"training.{setting.value}", "{}"
    return f"training.{setting.field}", setting.value


def _told(found: arithmetic.Estimate, sequence_length: int) -> MemoryEstimate:
    return MemoryEstimate(
        terms=_terms(found),
        peak_bytes=found.peak_bytes,
        reserve_bytes=found.reserve_bytes,
        peak_moment=found.moment,
        uncertainty=found.uncertainty,
        sequence_length=sequence_length,
        basis=found.basis,
    )


def workload_of(training: TrainingSpec, sequence: int, beside: int = 0) -> workload.Workload:
    """What a resolved training does with rows of at most `sequence` tokens, beside models with so many parameters."""
    batch, resources, stage = training.batch, training.resources, training.stage
    if isinstance(stage, Inference):
        return _use(training, stage, sequence)
    gpus = resources.gpus or 1
    micro_batch = batch.micro_batch or 1
    adapter, quantised = _adapter(training.method), training.method if isinstance(training.method, Qlora) else None
    evaluated = training.evaluation.generation
    evaluates = training.evaluation.cadence not in (None, Cadence.NEVER)
    # The trainers leave arithmetic in 16 bits to autocast, whatever the weights are.
    autocast = training.compute.precision in (Dtype.BF16, Dtype.FP16)
    # TRL's trainers of these have all logits at once, and make what is not quantised fp32.
    at_once = isinstance(stage, Orpo | Cpo)
    weight_bytes = 4 if at_once and quantised else _BYTES[training.model.dtype or Dtype.FP32]
    return workload.Workload(
        stage=_stage(stage),
        method=choice_name(training.method or Full()),  # type: ignore[arg-type]
        device="gpu" if resources.device == "gpu" else "cpu",
        gpus=gpus,
        sharding=_SHARDINGS[resources.sharding or Sharding.NO_SHARD],
        weight_bytes=weight_bytes,
        autocast=autocast,
        micro_batch=micro_batch,
        sequence=sequence,
        accumulates=(batch.global_batch or 0) > micro_batch * gpus,
        recompute=bool(training.compute.gradient_checkpointing),
        optimizer=_optimizer(training.optimizer),
        attention=str(training.model.attention),
        packed=bool(training.data.packing),
        padding_free=bool(training.compute.padding_free),
        loss="logits" if at_once else "tiled",
        logit_bytes=_logit_bytes(autocast or weight_bytes == 4) if at_once else 0,
        eval_micro_batch=training.evaluation.micro_batch or micro_batch if evaluates else 0,
        # PEFT makes adapters fp32; TRL makes those on 4-bit weights 16 bit where the arithmetic is.
        adapter_bytes=2 if quantised and autocast and not at_once else 4,
        rank=_rank(adapter),
        targets=getattr(adapter, "target_modules", ()),
        dropout=bool(getattr(adapter, "dropout", 0)),
        dora=isinstance(adapter, Lora) and bool(adapter.dora),
        saved_modules=len(getattr(adapter, "modules_to_save", ())),
        adapter=adapters_told.told(adapter),
        projection_rank=training.optimizer.projection_rank or 128,
        quantization=_quantization(quantised),
        double_quant=_double_quant(quantised),
        reference=not (isinstance(stage, Rewarded) and stage.beta == 0),
        generated_rows=_generated_rows(training),
        completion=(stage.sampling.max_completion_length or 0) if isinstance(stage, Online) and stage.sampling else 0,
        value_head=isinstance(stage, Ppo),
        reference_adapter=_copies_adapter(stage, training.method),
        other_models_bytes=0 if _is_reference(stage, training.method) else beside * weight_bytes,
        answer_tokens=(evaluated.max_new_tokens or 0) if evaluated else 0,
        exported_weight_bytes=_exported_weight_bytes(training, quantised=quantised is not None),
        trained_layers=abs(training.method.trainable_layers or 0) if isinstance(training.method, Freeze) else 0,
    )


def _use(training: TrainingSpec, stage: Inference, sequence: int) -> workload.Workload:
    """What a stage does that trains nothing: a forward pass, answers, or a copy of the model."""
    answers, quantised = training.evaluation.generation, training.method if isinstance(training.method, Qlora) else None
    return workload.Workload(
        stage=choice_name(stage),  # type: ignore[arg-type]
        method="qlora" if quantised else "none",
        quantization=_quantization(quantised),
        double_quant=_double_quant(quantised),
        device="gpu" if training.resources.device is DeviceKind.GPU else "cpu",
        gpus=1,
        weight_bytes=_BYTES[training.model.dtype or Dtype.FP32],
        autocast=training.compute.precision in (Dtype.BF16, Dtype.FP16),
        micro_batch=1,
        sequence=sequence,
        accumulates=False,
        recompute=False,
        optimizer="",
        attention=str(training.model.attention),
        padding_free=bool(training.compute.padding_free),
        eval_micro_batch=0 if isinstance(stage, Export) else training.evaluation.micro_batch or 1,
        # A chat's prompt and answer together have at most max_length.
        answer_tokens=(answers.max_new_tokens or 0) if answers else int(isinstance(stage, Chat)),
        exported_weight_bytes=_exported_weight_bytes(training, quantised=quantised is not None),
    )


def _quantization(quantised: Qlora | None) -> workload.Quantization:
    return _QUANTIZATIONS[quantised.quant_type or QuantType.NF4] if quantised else "nf4"


def _double_quant(quantised: Qlora | None) -> bool:
    return bool(quantised.double_quant) if quantised else True


def _generated_rows(training: TrainingSpec) -> int:
    """Answers that a device writes at once: all those of an update."""
    if not isinstance(training.stage, Online):
        return 0
    return (training.batch.global_batch or 0) // (training.resources.gpus or 1)


def _kept(training: TrainingSpec) -> int:
    """Checkpoints that are kept; the best one may be none of the newest."""
    return (training.checkpoints.keep or 1) + bool(training.checkpoints.keep_best)


def _exported(training: TrainingSpec) -> float:
    """Bytes that are written of each parameter beside what was trained."""
    output = training.output
    whole = output.merge or isinstance(training.stage, Export)
    merged = _BYTES[output.dtype] if whole and output.dtype else 0
    return merged + sum(_GGUF_BYTES[each] for each in output.gguf)


def _exported_weight_bytes(training: TrainingSpec, *, quantised: bool) -> int:
    """Of a weight in the copy that is made of the whole model: where it is dequantised, or in another format."""
    wanted = training.output.dtype
    return _BYTES[wanted] if wanted is not None and (quantised or wanted is not training.model.dtype) else 0


def _copies_adapter(stage: Stage | None, method: Method | None) -> bool:
    """Whether the loss compares with an adapter that was there before, which needs a copy of it."""
    lora = lora_of(method)
    compares = isinstance(stage, Dpo | Kto) and not (isinstance(stage, Dpo) and stage.reference)
    return compares and lora is not None and lora.continue_from is not None


def _is_reference(stage: Stage | None, method: Method | None) -> bool:
    """Whether the model beside stands where a frozen copy of the trained one would, which is counted already."""
    return isinstance(stage, Dpo) and stage.reference is not None and isinstance(method, Full | Freeze)


def _logit_bytes(fp32: bool) -> int:
    """Of ORPO's and CPO's losses, per logit: as counted in their steps, with logits in fp32 and in 16 bits."""
    return 18 if fp32 else 6


def _adapter(method: Method | None) -> Method:
    if isinstance(method, Qlora):
        method = method.lora
    return method or Full()


def _rank(adapter: Method) -> int:
    match adapter:
        case Lora() | Vera():
            return adapter.rank or 0
        case Adalora():
            return adapter.initial_rank or 0
        case _:
            return 0


def _optimizer(optimizer: Optimizer) -> str:
    return f"{optimizer.name}_momentum" if optimizer.momentum else optimizer.name or ""


def _stage(stage: Stage | None) -> workload.Stage:
    match stage:
        case Dpo():
            return "dpo"
        case Reward():
            return "reward"
        case Kto():
            return "kto"
        case Orpo():
            return "orpo"
        case Cpo():
            return "cpo"
        case Pretrain():
            return "pretrain"
        case Grpo():
            return "grpo"
        case Rloo():
            return "rloo"
        case Ppo():
            return "ppo"
        case Distill():
            return "distill"
        case _:
            return "sft"
