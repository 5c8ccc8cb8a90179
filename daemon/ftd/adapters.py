"""What the daemon may know of the weights that a spec names without torch: adapters or models, and in which shape.

Reads adapter_config.json only, of a bounded size; weights are seen, never opened. What jobs leave is known from their
specs, so nothing is read of that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ftd.errors import Violation
from ftd.limits import ALL_LINEAR, is_usable_path
from ftd.methods import Lora, LoraBias, Qlora, as_saved
from ftd.origins import Origin, lora_of, shaped_as, stands_on_own_model, weights_in, with_lora, with_weights
from ftd.paths import PathRefused, Roots
from ftd.spec import TrainingSpec
from ftd.weights import Weights

CONFIG = "adapter_config.json"
_CONFIG_LIMIT = 1024**2
# PEFT's name of each field that shapes an adapter.
PEFT_NAMES = {
    "rank": "r",
    "alpha": "lora_alpha",
    "target_modules": "target_modules",
    "modules_to_save": "modules_to_save",
    "rslora": "use_rslora",
    "dora": "use_dora",
    "exclude_modules": "exclude_modules",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
}


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """A folder of weights; `adapter` is its configuration if it holds an adapter."""

    adapter: Mapping[str, Any] | None = None
    problem: str = ""


def read_folder(path: str, roots: Roots) -> WeightsFolder:
    """What is at `path`, and what is wrong with it in words for who named it."""
    try:
        folder = roots.open(path, "folder")
    except PathRefused as refused:
        return WeightsFolder(problem=str(refused))
    try:
        names = frozenset(os.listdir(folder))  # noqa: PTH208 - of the opened descriptor
    finally:
        os.close(folder)
    if not any(name.endswith(".safetensors") for name in names):
        return WeightsFolder(problem="has no weights; accepted are *.safetensors files")
    if CONFIG not in names:
        has_model = "config.json" in names
        return WeightsFolder(problem="" if has_model else f"has neither {CONFIG} nor config.json")
    try:
        config = json.loads(roots.read(f"{path}/{CONFIG}", _CONFIG_LIMIT))
    except (PathRefused, ValueError, RecursionError):
        return WeightsFolder(problem=f"has an {CONFIG} that cannot be read; accepted is what PEFT wrote")
    if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
        return WeightsFolder(problem=f"has an {CONFIG} without peft_type; accepted is what PEFT wrote")
    return WeightsFolder(config)


def settle(training: TrainingSpec, origins: Mapping[str, Origin], roots: Roots) -> tuple[TrainingSpec, list[Violation]]:
    """The training in the shape of the adapter it goes on with, and what is wrong with the folders of weights it names.

    Beside each adapter that stands for a whole model its base is filled in.
    """
    found = {
        path: read_folder(weights.path, roots)
        for path, weights in weights_in(training)
        if weights.path and weights.from_job is None and is_usable_path(weights.path)
    }
    violations = [
        Violation(f"training.{path}.path", problem)
        for path, folder in found.items()
        if (problem := folder.problem or _misplaced(path, folder))
    ]

    def based(path: str, weights: Weights) -> Weights:
        stands_alone = path in found and found[path].adapter is not None and not stands_on_own_model(path)
        own = training.model.path
        return replace(weights, base_path=weights.base_path or own) if stands_alone else weights

    training, shaped = _shaped(with_weights(training, based), origins, found)
    return training, [*violations, *shaped]


def _misplaced(path: str, folder: WeightsFolder) -> str:
    if stands_on_own_model(path) and folder.adapter is None:
        return "is the folder of a model; accepted is the folder of an adapter"
    kind = (folder.adapter or {}).get("peft_type")
    if path.endswith("continue_from") and kind != "LORA":
        return f"is an adapter of the type {kind}; accepted is LORA"
    return ""


def _shaped(
    training: TrainingSpec, origins: Mapping[str, Origin], found: Mapping[str, WeightsFolder]
) -> tuple[TrainingSpec, list[Violation]]:
    """The training's LoRA as the adapter that it goes on with is."""
    lora, method = lora_of(training.method), training.method
    if method is None or lora is None or lora.continue_from is None:
        return training, []
    place = "qlora.lora" if isinstance(method, Qlora) else "lora"
    origin, folder = origins.get(f"{place}.continue_from.from_job"), found.get(f"{place}.continue_from")
    if origin is not None:
        theirs = lora_of(origin.job.resolved.method)
        adapter = as_saved(theirs) if theirs else None
    else:
        adapter = lora_shape(folder.adapter) if folder and folder.adapter else None
    if adapter is None:
        return training, []
    shaped, problems = shaped_as(lora, adapter)
    violations = [Violation(f"training.{place}.{name}", f"{text}; leave it out") for name, text in problems]
    return replace(training, method=with_lora(method, shaped)), violations


def lora_shape(config: Mapping[str, Any]) -> Lora:
    """The shape of a LoRA adapter, as a spec would ask for it."""
    known = {each.name for each in fields(Lora)}
    values: dict[str, Any] = {name: config.get(theirs) for name, theirs in PEFT_NAMES.items() if name in known}
    modules: dict[str, Any] = {
        name: _modules(values[name]) for name in ("target_modules", "modules_to_save", "exclude_modules")
    }
    if isinstance(values["target_modules"], str) and values["target_modules"] != ALL_LINEAR:
        modules |= {"target_modules": (), "target_pattern": values["target_modules"]}
    patterns = {name: dict(values[name] or {}) for name in ("rank_pattern", "alpha_pattern")}
    return Lora(**{**values, **modules, **patterns, "bias": LoraBias(config.get("bias") or "none")})


def _modules(given: Any) -> tuple[str, ...]:
    """Names of modules as PEFT wrote them: a list, one pattern, or none."""
    return tuple(map(str, given)) if isinstance(given, list) else (given,) if isinstance(given, str) else ()
