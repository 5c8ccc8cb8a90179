"""Spells out methods, optimizers and schedules, as `ftd.resolve` does the rest. Pure.

The defaults are those of training.proto and adapters.proto, and they stand in the code only here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftd.limits import ALL_LINEAR
from ftd.methods import (
    PROMPTS,
    Adalora,
    Boft,
    Encoder,
    Freeze,
    Full,
    Ia3,
    Lora,
    LoraBias,
    LoraInit,
    Method,
    Oft,
    PrefixTuning,
    PromptTuning,
    PTuning,
    Qlora,
    QuantType,
    Vera,
)
from ftd.models import ModelInfo
from ftd.online import Online
from ftd.optimizers import ADAM, TABLE
from ftd.spec import Compute, Decay, DeviceKind, Dtype, Optimizer, Schedule
from ftd.stages import Cpo, Dpo, Kto, Orpo, Stage
from ftd.validate.methods import NO_WARMUP_SCHEDULES, SCHEDULE_FIELDS
from ftsched.shapes import Reads, shape_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    R = TypeVar("R", bound=DataclassInstance)

TRAINABLE_LAYERS = 2
_USUAL_MODULES = ("k_proj", "v_proj", "down_proj")
_EVERYWHERE = (ALL_LINEAR,)


def filled(given: R, defaults: R) -> R:
    """`given` with each field that is unset taken from `defaults`."""
    names = [name for name in given.__dataclass_fields__ if getattr(given, name) in (None, (), {})]
    values: dict[str, Any] = {name: getattr(defaults, name) for name in names}
    return replace(given, **values)


def method(given: Method, compute: Compute, device: DeviceKind, model: ModelInfo | None) -> Method:
    """The method with every field that applies."""
    match given:
        case Lora():
            return _lora(given)
        case Qlora():
            return _qlora(given, compute, device)
        case Full():
            return given
        case Freeze():
            layers = min(TRAINABLE_LAYERS, model.layers or TRAINABLE_LAYERS) if model else TRAINABLE_LAYERS
            return filled(given, Freeze(trainable_layers=layers))
        case Adalora() | Vera() | Oft() | Boft() | Ia3():
            return _targeted(given, model)
        case PrefixTuning() | PromptTuning() | PTuning():
            return _prompt(given, model)


def _lora(lora: Lora) -> Lora:
    rank = lora.rank or 8
    defaults = Lora(
        rank=rank,
        alpha=2.0 * rank,
        dropout=0.0,
        target_modules=() if lora.target_pattern else _EVERYWHERE,
        rslora=False,
        dora=False,
        init=None if lora.continue_from else LoraInit.DEFAULT,
        bias=LoraBias.NONE,
        loraplus_embedding_lr=1e-6 if lora.loraplus_lr_ratio else None,
    )
    return filled(lora, defaults)


def _qlora(qlora: Qlora, compute: Compute, device: DeviceKind) -> Qlora:
    lora = replace(_lora(qlora.lora or Lora()), dora=None)
    qlora = filled(qlora, Qlora(quant_type=QuantType.NF4))
    if qlora.quant_type is not QuantType.INT8:
        usual = Dtype.BF16 if device is DeviceKind.GPU else Dtype.FP32
        qlora = filled(qlora, Qlora(double_quant=True, compute_dtype=compute.precision or usual))
    return replace(qlora, lora=lora)


def _targeted(given: Adalora | Vera | Oft | Boft | Ia3, model: ModelInfo | None) -> Method:
    match given:
        case Adalora():
            adalora = Adalora(12, 8, 16.0, 0.0, _EVERYWHERE, (), 0, 0, 1, 0.5)
            return filled(given, adalora)
        case Vera():
            return filled(given, Vera(256, 0.0, _EVERYWHERE, (), 0.1))
        case Oft():
            epsilon = 6e-5 if given.constrained else None
            return filled(given, Oft(32, 0.0, _EVERYWHERE, (), share_blocks=False, constrained=False, epsilon=epsilon))
        case Boft():
            return filled(given, Boft(4, 1, 0.0, _EVERYWHERE))
        case Ia3():
            scaled = _scaled_modules(model)
            given = filled(given, Ia3(target_modules=scaled))
            return filled(given, Ia3(feedforward_modules=(scaled[-1],) if scaled[-1] in given.target_modules else ()))


def _scaled_modules(model: ModelInfo | None) -> tuple[str, ...]:
    """What makes keys and values, and the last module of the MLP, as the model calls them."""
    if model is None:
        return _USUAL_MODULES
    shape = shape_of(model.config)
    reading = [each.name for each in shape.matrices if each.reads is Reads.ATTENTION_INPUT]
    inner = [each.name for each in shape.matrices if each.reads is Reads.MLP_INNER]
    return (*(reading[1:] or reading), *inner[-1:])


def _prompt(given: PrefixTuning | PromptTuning | PTuning, model: ModelInfo | None) -> Method:
    width = shape_of(model.config).hidden if model else None
    match given:
        case PrefixTuning():
            given = filled(given, PrefixTuning(20, projection=False))
            return filled(given, PrefixTuning(encoder_hidden_size=width)) if given.projection else given
        case PromptTuning():
            return filled(given, PromptTuning(20))
        case PTuning():
            encoder = given.encoder or Encoder.MLP
            return filled(given, PTuning(20, encoder, width, 0.0 if encoder is Encoder.LSTM else None))


def optimizer(given: Optimizer, stage: Stage, method: Method) -> Optimizer:
    """The optimizer with every field that it uses."""
    name = given.name or "adamw_torch_fused"
    defaults = Optimizer(name=name, learning_rate=_rate(stage, method), weight_decay=0.0, max_grad_norm=1.0)
    used = TABLE[name].fields
    usual = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "momentum": 0.0}
    usual |= {"projection_rank": 128, "projection_interval": 200}
    usual["projection_scale"] = 1.0 if set(ADAM) <= set(used) else 0.25
    return filled(given, replace(defaults, **{field: usual[field] for field in used}))  # type: ignore[arg-type]


def _rate(stage: Stage, method: Method) -> float:
    if isinstance(stage, Dpo | Kto | Orpo | Cpo):
        return 5e-6
    rate = 1e-5 if isinstance(method, Full | Freeze) else 1e-3 if isinstance(method, PROMPTS) else 1e-4
    return rate / 10 if isinstance(stage, Online) else rate


def schedule(given: Schedule) -> Schedule:
    """The schedule with every field that it uses."""
    name = given.name or "cosine"
    warms_up = name not in NO_WARMUP_SCHEDULES
    least = 0.0 if name == "warmup_stable_decay" else 0.1
    usual = Schedule(
        min_lr_ratio=least,
        restarts=1,
        power=1.0,
        decay_ratio=0.1,
        decay=Decay.COSINE,
        plateau_factor=0.1,
        plateau_patience=10,
    )
    defaults = Schedule(
        epochs=3.0 if given.max_steps is None else None,
        name=name,
        warmup_ratio=0.03 if warms_up and given.warmup_steps is None else None,
        **{field: getattr(usual, field) for field, names in SCHEDULE_FIELDS.items() if name in names},
    )
    given = filled(given, defaults)
    return given if warms_up else replace(given, warmup_ratio=None, warmup_steps=None)
