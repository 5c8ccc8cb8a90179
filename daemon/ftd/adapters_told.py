"""What a method says of its adapter, as the memory estimate is told it. Pure."""

from __future__ import annotations

from ftd.methods import (
    Boft,
    Freeze,
    Ia3,
    Lora,
    Method,
    Oft,
    PrefixTuning,
    PromptTuning,
    PTuning,
)
from ftsched.workload import Adapter


def told(method: Method) -> Adapter:
    """All but rank and targets, which `ftsched` has in the workload itself."""
    match method:
        case Lora():
            return Adapter(
                pattern=method.target_pattern or "",
                excluded=method.exclude_modules,
                layers=method.layers,
                ranks=tuple(method.rank_pattern.items()),
                bias=str(method.bias or "none"),
            )
        case Oft():
            return Adapter(block=method.block_size or 0, shared=bool(method.share_blocks))
        case Boft():
            return Adapter(block=method.block_size or 0, factors=method.factors or 1)
        case Ia3():
            return Adapter(scales_inputs=method.feedforward_modules)
        case PrefixTuning() | PTuning():
            encoder = str(method.encoder or "") if isinstance(method, PTuning) else ""
            width = method.encoder_hidden_size or 0
            return Adapter(virtual_tokens=method.virtual_tokens or 0, encoder=encoder, encoder_width=width)
        case PromptTuning():
            return Adapter(virtual_tokens=method.virtual_tokens or 0)
        case Freeze():
            first = (method.trainable_layers or 0) < 0
            return Adapter(modules=method.modules, extra_modules=method.extra_modules, first_layers=first)
        case _:
            return Adapter()
