"""What a model and this host can do of what a method and an optimizer ask: layers, widths, kernels, packages.

Looks at the model's configuration and at installed packages; nothing is imported or loaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from ftd.errors import Violation
from ftd.methods import Boft, Freeze, Lora, Qlora
from ftd.models import ModelInfo
from ftd.optimizers import TABLE
from ftd.origins import lora_of
from ftd.spec import TrainingSpec
from ftsched.shapes import shape_of
from ftsched.trained import targeted_names

# The package with the kernels of models that were quantised before.
_QUANTISED_BY = {"gptq": "gptqmodel", "awq": "gptqmodel"}


def unable(training: TrainingSpec, model: ModelInfo | None) -> Iterator[Violation]:
    """What the training asks for and the model or the host does not have."""
    yield from _optimizer(training)
    if model is not None:
        yield from _quantised(training, model.config)
        yield from _layers(training, model.layers)
        yield from _blocks(training, model.config)


def _optimizer(training: TrainingSpec) -> Iterator[Violation]:
    kind = TABLE.get(training.optimizer.name or "")
    if kind is not None and kind.module and importlib.util.find_spec(kind.module) is None:
        text = f"is {training.optimizer.name}, but the package {kind.package} is not installed here"
        yield Violation("training.optimizer.name", f"{text}; accepted is e.g. adamw_torch_fused")


def _quantised(training: TrainingSpec, config: Mapping[str, Any]) -> Iterator[Violation]:
    """A base model that was quantised before."""
    found = config.get("quantization_config")
    if not isinstance(found, Mapping):
        return
    how = str(found.get("quant_method") or "an unknown way")
    package = _QUANTISED_BY.get(how)
    if package is None:
        text = f"is a model that was quantised by {how}; accepted is the model as it was before"
    elif importlib.util.find_spec(package) is None:
        text = f"is a model quantised by {how}, whose kernels are in the package {package}"
        text += ", which is not installed here; accepted is the model as it was before"
    elif not isinstance(training.method or Lora(), Lora):
        text = f"is a model quantised by {how}, whose weights cannot be trained; accepted with lora"
    else:
        return
    yield Violation("training.model.path", text)


def _layers(training: TrainingSpec, layers: int | None) -> Iterator[Violation]:
    method = training.method
    wanted = method.trainable_layers if isinstance(method, Freeze) else None
    if wanted is not None and layers is not None and abs(wanted) > layers:
        text = f"is {wanted}, but the model has {layers} layers; accepted is 1 to {layers}"
        yield Violation("training.freeze.trainable_layers", text)
    lora = lora_of(method)
    if lora is not None and layers is not None and max(lora.layers, default=0) >= layers:
        place = "qlora.lora" if isinstance(method, Qlora) else "lora"
        text = f"has {max(lora.layers)}, but the model has {layers} layers; accepted are 0 to {layers - 1}"
        yield Violation(f"training.{place}.layers", text)


def _blocks(training: TrainingSpec, config: Mapping[str, Any]) -> Iterator[Violation]:
    """Rotations in blocks that do not divide what a module reads."""
    boft = training.method
    if not isinstance(boft, Boft):
        return
    block, factors = boft.block_size or 4, boft.factors or 1
    whole = block * 2 ** (factors - 1)
    for matrix in shape_of(config).matrices:
        if targeted_names(boft.target_modules, matrix.name) and matrix.inputs % whole:
            text = f"is {block} with {factors} factors, which does not divide the {matrix.inputs} numbers"
            yield Violation("training.boft.block_size", f"{text} that {matrix.name} reads; accepted is a divisor")
            return
