"""The optimizers that a spec may name, by transformers' names: the package each needs, and the fields each uses.

A table. Left out are those that forbid accumulation (the layerwise ones), that update in the backward pass
(lomo, adalomo), whose weights differ while they train and when they are saved (schedule_free), or that need another
device's library (npu, xla, anyprecision). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

ADAM = ("beta1", "beta2", "epsilon")
_BETAS = ("beta1", "beta2")
_PROJECTED = ("projection_rank", "projection_interval", "projection_scale")


@dataclass(frozen=True, slots=True)
class Kind:
    """An optimizer. `fields` are those of the spec's optimizer that not every one uses."""

    fields: tuple[str, ...] = ()
    # The module to import, and the package that has it; empty: it is there with torch and transformers.
    module: str = ""
    package: str = ""
    needs_gpu: bool = False
    # Takes parameter groups as they are, as LoRA+ needs.
    takes_groups: bool = True

    @property
    def projects(self) -> bool:
        """Whether it keeps the states of matrices at a low rank."""
        return "projection_rank" in self.fields


def _galore(fields: tuple[str, ...] = (), *, needs_gpu: bool = False) -> Kind:
    return Kind((*fields, *_PROJECTED), "galore_torch", "galore-torch", needs_gpu=needs_gpu, takes_groups=False)


_PAGED = Kind(ADAM, needs_gpu=True)
TABLE = {
    "adamw_torch_fused": Kind(ADAM),
    "adamw_torch": Kind(ADAM),
    "adafactor": Kind(),
    "sgd": Kind(("momentum",)),
    "adagrad": Kind(),
    "rmsprop": Kind(("momentum",)),
    "adamw_8bit": Kind(ADAM),
    "adamw_bnb_8bit": Kind(ADAM),
    "paged_adamw_8bit": _PAGED,
    "paged_adamw_32bit": _PAGED,
    "ademamix": Kind(ADAM),
    "ademamix_8bit": Kind(ADAM),
    "paged_ademamix_32bit": _PAGED,
    "paged_ademamix_8bit": _PAGED,
    "lion_32bit": Kind(_BETAS),
    "lion_8bit": Kind(_BETAS),
    "paged_lion_32bit": Kind(_BETAS, needs_gpu=True),
    "paged_lion_8bit": Kind(_BETAS, needs_gpu=True),
    "rmsprop_bnb": Kind(),
    "rmsprop_bnb_8bit": Kind(),
    "rmsprop_bnb_32bit": Kind(),
    "adamw_torch_8bit": Kind(ADAM, "torchao", "torchao"),
    "adamw_torch_4bit": Kind(ADAM, "torchao", "torchao"),
    "galore_adamw": _galore(),
    "galore_adamw_8bit": _galore(needs_gpu=True),
    "galore_adafactor": _galore(),
    "apollo_adamw": Kind((*ADAM, *_PROJECTED), "apollo_torch", "apollo-torch", takes_groups=False),
    "stable_adamw": Kind(ADAM, "optimi", "torch-optimi", needs_gpu=True),
}
