"""Which parameters of a model a training moves, and how many: exact for the model types that are known. Pure.

Modules are told by their paths as PEFT tells them: a name is the path's end, a pattern is the whole of it, and a key of
a table of ranks is the end of it as a pattern.
"""

from __future__ import annotations

import re

from ftsched.shapes import Matrix, Reads, Shape
from ftsched.workload import Adapter, Workload

ALL_LINEAR = "all-linear"


def trained_parameters(work: Workload, shape: Shape) -> int:
    """Number of parameters that are trained."""
    head = shape.hidden if work.value_head or not work.has_vocabulary_head else 0
    if work.method == "full":
        return model_parameters(work, shape) + (head if work.value_head else 0)
    if work.method == "freeze":
        return _unfrozen(work, shape) + head
    if work.adapter.virtual_tokens:
        return _virtual_tokens(work, shape) + head
    return _adapters(work, shape) + work.saved_modules * shape.embedding + head


def model_parameters(work: Workload, shape: Shape) -> int:
    """Parameters of the model without adapters: a reward model has a head of one number for that of the vocabulary."""
    if work.has_vocabulary_head:
        return shape.parameters
    return shape.parameters + shape.hidden - (0 if shape.tied else shape.embedding)


def adapter_parameters(work: Workload, shape: Shape) -> int:
    """Parameters of the adapters of one layer, of all layers on average; 0 without adapters."""
    return -(-_in_layers(work, shape) // shape.layers) if work.adapts else 0


def targeted(work: Workload, shape: Shape) -> tuple[Matrix, ...]:
    """The matrices that have an adapter, in one layer at least."""
    if not work.adapts:
        return ()
    return tuple(each for each in shape.matrices if _paths(work, shape, each))


def targeted_names(targets: tuple[str, ...], name: str) -> bool:
    """Whether targets mean the matrix of this name; no targets mean all."""
    return not targets or ALL_LINEAR in targets or _ends(name, targets)


def adapts_experts(work: Workload, shape: Shape) -> bool:
    """Whether the fused experts have adapters."""
    lora = work.method in ("lora", "qlora")
    return lora and ALL_LINEAR in work.targets and shape.experts is not None and shape.experts.adapted


def adapts_attention_only(work: Workload, shape: Shape) -> bool:
    """Whether all adapters sit on the attention."""
    attention = (Reads.ATTENTION_INPUT, Reads.ATTENTION_OUTPUT)
    return all(each.reads in attention for each in targeted(work, shape)) and not adapts_experts(work, shape)


def _adapters(work: Workload, shape: Shape) -> int:
    count = _in_layers(work, shape)
    if shape.family.embedding.rpartition(".")[2] in work.targets:
        count += work.rank * (shape.vocabulary + shape.hidden)
    if work.adapter.bias == "all":
        count += shape.biases
    return count


def _in_layers(work: Workload, shape: Shape) -> int:
    """Parameters of all adapters on the matrices of layers, and on experts."""
    count = sum(
        times * _of_module(work, matrix, path)
        for matrix in shape.matrices
        for path, times in _paths(work, shape, matrix)
    )
    if adapts_experts(work, shape) and shape.experts is not None:
        r, hidden, width, experts = work.rank, shape.hidden, shape.experts.width, shape.experts.count
        each = experts * (2 * r * (hidden + 2 * width) + r * (width + hidden)) + r * (hidden + experts)
        count += shape.layers * each
    return count


def _paths(work: Workload, shape: Shape, matrix: Matrix) -> list[tuple[str, int]]:
    """The paths of the modules of this matrix that have an adapter, and how many layers each stands for."""
    adapter = work.adapter
    alike = not (adapter.pattern or adapter.ranks or adapter.layers) and not any(
        part.isdigit() for name in (*work.targets, *adapter.excluded) for part in name.split(".")
    )
    layers, times = ((0,), shape.layers) if alike else (adapter.layers or range(shape.layers), 1)
    place = shape.family.place(matrix.name)
    paths = [f"{shape.family.layers}.{layer}.{place}" for layer in layers]
    return [(path, times) for path in paths if _is_target(work, path) and not _ends(path, adapter.excluded)]


def _is_target(work: Workload, path: str) -> bool:
    if work.adapter.pattern:
        return re.fullmatch(work.adapter.pattern, path) is not None
    return ALL_LINEAR in work.targets or _ends(path, work.targets)


def _ends(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def _of_module(work: Workload, matrix: Matrix, path: str) -> int:
    adapter, inputs, outputs = work.adapter, matrix.inputs, matrix.outputs
    bias = outputs if adapter.bias == "lora_only" and matrix.bias else 0
    match work.method:
        case "adalora":
            return work.rank * (inputs + outputs + 1)
        case "vera":
            return work.rank + outputs
        case "oft":
            block = rotated_block(inputs, adapter.block)
            return (1 if adapter.shared else inputs // block) * block * (block - 1) // 2
        case "boft":
            return adapter.factors * inputs * adapter.block + outputs
        case "ia3":
            return inputs if _ends(path, adapter.scales_inputs) else outputs
        case _:
            rank = _rank(work.adapter, path, work.rank)
            return rank * (inputs + outputs) + (outputs if work.dora else 0) + bias


def _rank(adapter: Adapter, path: str, usual: int) -> int:
    return next((rank for key, rank in adapter.ranks if re.fullmatch(rf"(.*\.)?({key})", path)), usual)


def rotated_block(inputs: int, wanted: int) -> int:
    """The width nearest to the wanted one that divides the inputs, the smaller one of two; as PEFT takes it."""
    if wanted >= inputs:
        return inputs
    higher = next(width for width in range(wanted, inputs + 1) if inputs % width == 0)
    lower = next(width for width in range(wanted, 0, -1) if inputs % width == 0)
    return lower if wanted - lower <= higher - wanted else higher


def _virtual_tokens(work: Workload, shape: Shape) -> int:
    """Of the tokens and of the network that makes them."""
    tokens, width, adapter = work.adapter.virtual_tokens, work.adapter.encoder_width, work.adapter
    hidden = shape.hidden
    if work.method == "prefix_tuning":
        made = 2 * shape.layers * shape.group
        if not width:
            return tokens * made
        return tokens * shape.group + (shape.group + 1) * width + (width + 1) * made
    match adapter.encoder:
        case "mlp":
            return tokens * hidden + (hidden + 1) * width + (width + 1) * width + (width + 1) * hidden
        case "lstm":
            # Two layers in both directions, four gates each with two biases.
            first = 2 * 4 * width * (hidden + width + 2)
            second = 2 * 4 * width * (2 * width + width + 2)
            return tokens * hidden + first + second + (2 * width + 1) * 2 * width + (2 * width + 1) * hidden
        case _:
            return tokens * hidden


def _unfrozen(work: Workload, shape: Shape) -> int:
    """Of the layers that are not frozen, or of the modules named in them, and of modules beyond."""
    beyond = sum(_extra(shape, name) for name in work.adapter.extra_modules)
    names = work.adapter.modules
    if not names:
        return work.trained_layers * shape.per_layer + beyond
    places = {each: shape.family.place(each.name) for each in shape.matrices}
    matrices = [each for each, place in places.items() if any(f".{name}." in f".{place}." for name in names)]
    parts = {place.split(".")[0] for place in places.values()} | {place.split(".")[-1] for place in places.values()}
    norms = shape.hidden * sum(name not in parts for name in names)
    inside = sum(each.size + (each.outputs if each.bias else 0) for each in matrices)
    return work.trained_layers * (inside + norms) + beyond


def _extra(shape: Shape, name: str) -> int:
    """A module beyond the layers: embedding or head, else the last norm."""
    vocabulary = (shape.family.embedding, shape.family.head)
    return shape.embedding if any(f".{each}".endswith(f".{name}") for each in vocabulary) else shape.hidden
