"""Tables of published trainings: what each row's columns say about a run, as the estimator is told it.

The format is one CSV row per run and one JSON file of model shapes. An empty cell takes what its framework does by
itself; a word that is not known makes the row unreadable, with the reason; a file that is not such a table is refused.
Nothing here knows a row, a source or a model by its name. It must never look at the measured peak.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ftsched.families import Mlp
from ftsched.optimizers import OPTIMIZERS
from ftsched.shapes import NotAModel, Reads, Shape, shape_of
from ftsched.workload import Loss, Method, Quantization, Sharding, Stage, Workload

REQUIRED = ("id", "framework", "model", "method", "micro_batch", "seq_len", "num_gpus", "metric", "peak_gib")
# Trainers built on Hugging Face's: adapters in fp32, arithmetic left to autocast.
HUGGING_FACE = frozenset({"trl", "hf-trainer", "pytorch-loop"})
_METHODS: Mapping[str, tuple[Method, Quantization]] = {
    "full": ("full", "nf4"),
    "lora": ("lora", "nf4"),
    "lora+emb": ("lora", "nf4"),
    "qlora4": ("qlora", "nf4"),
    "qlora4-nodq": ("qlora", "nf4"),
    "qlora8": ("qlora", "int8"),
    "gptq4": ("qlora", "gptq4"),
    "gptq8": ("qlora", "gptq8"),
}
_STAGES: Mapping[str, Stage] = {"": "sft", "sft": "sft", "pt": "pretrain", "pretrain": "pretrain", "dpo": "dpo"}
_SHARDINGS: Mapping[str, Sharding] = {
    "": "ddp",
    "none": "ddp",
    "ddp": "ddp",
    "zero1": "zero1",
    "zero2": "zero2",
    "zero3": "zero3",
    "fsdp": "fsdp",
    "fsdp2": "fsdp2",
}
_LOSSES: Mapping[str, Loss] = {
    "": "logits",
    "full": "logits",
    "fusedce": "logits",
    "tiled": "tiled",
    "liger": "liger",
    "chunked": "chunked",
}
_KERNELS = {"": "flash_attention_2", "flash": "flash_attention_2", "sdpa": "sdpa", "eager": "eager"}
_OPTIMIZER_NAMES = {"": "adamw_torch", "adamw_fused": "adamw_torch_fused", "adamw": "adamw_torch"}
_WEIGHT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "": 2}
# Model types whose classes left the logits in 16 bits when most made them fp32, and those that came with the release
# that does so without a copy.
_NOT_UPCAST = frozenset({"gpt2", "gpt_bigcode", "gpt_neox", "bloom", "falcon"})
_UPCAST_ONCE = frozenset({"granite", "smollm3", "qwen3", "glm4"})
# Bytes per logit of the fused cross-entropy kernel: two releases of it were measured. Which one a run had stands in no
# column of its own; the tables say it by the file that a run was published in.
_FUSED_LOSS, _OLDER_FUSED_LOSS = 8, 10
_WITH_OLDER_KERNEL = "/a100_80gb.csv"
# Which matrices a short name of a target stands for, by what they read and how they are called.
_PARTS = {
    "q": (Reads.ATTENTION_INPUT, "q"),
    "k": (Reads.ATTENTION_INPUT, "k"),
    "v": (Reads.ATTENTION_INPUT, "v"),
    "o": (Reads.ATTENTION_OUTPUT, ""),
}


class BadTable(Exception):
    """A file that is no such table; the message names the file, the line and the column."""


class Unreadable(Exception):
    """A row that cannot be told to the estimator; the message names the column and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One run: what it did, on which card, and what was read there.

    `peak_gib` is None where it ran out of memory; `quality` is C where the configuration is only roughly known.
    """

    id: str
    framework: str
    metric: str
    exact: bool
    gpu: str
    quality: str
    peak_gib: float | None
    shape: Shape
    work: Workload


@dataclass(slots=True)
class Table:
    """The rows that could be read, and why the others could not."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def read_models(path: Path) -> dict[str, Shape]:
    """Shapes by model name. Raises BadTable."""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadTable(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(models, dict) or not all(isinstance(each, dict) for each in models.values()):
        raise BadTable(f"{path}: accepted is an object that maps model names to the fields of their config.json")
    shapes = {}
    for name, fields in models.items():
        try:
            shapes[name] = shape_of(_config(fields))
        except NotAModel as error:
            raise BadTable(f"{path}: {name}: {error}") from None
    return shapes


def read_rows(path: Path, shapes: Mapping[str, Shape]) -> Table:
    """The rows of a CSV file. Raises BadTable."""
    table = Table()
    for line, cells in _lines(path):
        try:
            table.rows.append(_row(cells, shapes))
        except Unreadable as reason:
            table.skipped.append(f"{path}: line {line}: {reason}")
        except ValueError as error:
            raise BadTable(f"{path}: line {line}: {error}") from None
    return table


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
            if missing:
                raise BadTable(f"{path}: has no column {', '.join(missing)}")
            for cells in reader:
                if None in cells or None in cells.values():
                    raise BadTable(f"{path}: line {reader.line_num}: has not as many cells as there are columns")
                yield reader.line_num, {name: cell.strip() for name, cell in cells.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadTable(f"{path}: cannot be read as CSV: {error}") from None


def _config(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of shapes gives the width of one MLP matrix, where qwen's first generation has both in one field."""
    if fields.get("model_type") == "qwen" and isinstance(fields.get("intermediate_size"), int):
        return {**fields, "intermediate_size": 2 * fields["intermediate_size"]}
    return fields


def _row(cells: Mapping[str, str], shapes: Mapping[str, Shape]) -> Row:
    shape = shapes.get(cells["model"])
    if shape is None:
        raise Unreadable(f"model is {cells['model']!r}, which the file of models does not have")
    if cells["framework"] == "litgpt":
        # Its own model code makes queries, keys and values with one matrix, and GELU with one kernel.
        mlp: Mlp = "gated" if shape.family.mlp == "gated" else "gelu"
        shape = replace(shape, family=replace(shape.family, keeps_fused=True, mlp=mlp))
    return Row(
        id=cells["id"],
        framework=cells["framework"],
        metric=cells["metric"],
        exact=cells.get("seq_kind") == "exact",
        gpu=cells.get("gpu", ""),
        quality=cells.get("quality", ""),
        peak_gib=_peak(cells["peak_gib"]),
        shape=shape,
        work=workload(cells, shape),
    )


def workload(cells: Mapping[str, str], shape: Shape) -> Workload:
    """The run that a row describes. Raises Unreadable, and ValueError for a number that is none."""
    method, quantization = _word(cells, "method", _METHODS)
    gpus, hugging_face = _count(cells, "num_gpus", 1), cells["framework"] in HUGGING_FACE
    sharding = _word(cells, "sharding", _SHARDINGS)
    weight_bytes = _word(cells, "weight_dtype", _WEIGHT_BYTES)
    autocast = _autocast(cells, hugging_face)
    sharded = gpus > 1 and sharding in ("zero3", "fsdp", "fsdp2")
    notes = cells.get("notes", "")
    if "prepare_model_for_kbit_training" in notes and not sharded:
        # It makes fp32 what is not quantised; trainers leave it out where the parameters are sharded.
        weight_bytes = 4
    loss = _word(cells, "loss", _LOSSES)
    logit_bytes = _logit_bytes(cells, shape.model_type, autocast) if loss == "logits" else 0
    return Workload(
        stage=_word(cells, "stage", _STAGES),
        method=method,
        device="gpu",
        gpus=gpus,
        weight_bytes=weight_bytes,
        autocast=autocast,
        micro_batch=_count(cells, "micro_batch", 1),
        sequence=_count(cells, "seq_len", 1),
        accumulates=False,
        recompute=cells.get("gc", "") != "0",
        optimizer=_optimizer(cells),
        attention=_word(cells, "attn", _KERNELS),
        packed=cells.get("packing") == "1",
        adapter_bytes=4 if hugging_face or weight_bytes == 4 else 2,
        rank=_count(cells, "lora_rank", 0) if method != "full" else 0,
        targets=_targets(cells, shape) if method != "full" else (),
        # litgpt's recipes drop 5 % of what an adapter reads.
        dropout=cells["framework"] == "litgpt",
        saved_modules=2 if cells["method"] == "lora+emb" else 0,
        quantization=quantization,
        keeps_quantised_inputs=cells["framework"] == "litgpt" and method == "qlora",
        double_quant=cells["method"] != "qlora4-nodq",
        sharding=sharding,
        offloaded=cells.get("offload") == "params",
        offloads_activations=cells.get("offload") == "activations",
        steps_in_backward="optimizer_in_bwd" in cells.get("optimizer", ""),
        loss=loss,
        logit_bytes=logit_bytes,
        fused_norms="foak" in notes,
        fused_adapters="accelerated-peft" in notes and "foak" in notes,
        # Until 2025 transformers' classes did so before the flash kernel, all but llama's.
        expands_heads=hugging_face and shape.model_type in ("mistral", "mixtral", "qwen2", "qwen2_moe"),
    )


def _autocast(cells: Mapping[str, str], hugging_face: bool) -> bool:
    amp = cells.get("amp", "")
    if amp not in ("", "amp", "pure", "fsdp-mp-bf16"):
        raise Unreadable(f"amp is {amp!r}; accepted are amp, pure, fsdp-mp-bf16")
    return hugging_face if not amp else amp != "pure"


def _logit_bytes(cells: Mapping[str, str], model_type: str, autocast: bool) -> float:
    """Bytes per logit of the trainers of the time, which drop the model's outputs before the backward pass.

    A fused kernel writes the gradient over the logits. 0 leaves it to what accelerate and torch do today.
    """
    fused = cells.get("loss") == "fusedce"
    if not fused and cells["framework"] != "trl":
        return 0
    if model_type in _NOT_UPCAST:
        return (16 if autocast else 8) - (2 if fused else 0)
    if fused:
        return _OLDER_FUSED_LOSS if cells.get("path", "").endswith(_WITH_OLDER_KERNEL) else _FUSED_LOSS
    return 12 if model_type in _UPCAST_ONCE else 14


def _optimizer(cells: Mapping[str, str]) -> str:
    """The last of names joined by a plus; foreach AdamW, the widest of the common ones, for one that is not known."""
    name = cells.get("optimizer", "").rsplit("+", maxsplit=1)[-1]
    name = _OPTIMIZER_NAMES.get(name, name)
    return name if name in OPTIMIZERS else "adamw_torch"


def _targets(cells: Mapping[str, str], shape: Shape) -> tuple[str, ...]:
    """Names of the adapted matrices. One that makes queries, keys and values stands for each of them."""
    names: dict[str, None] = {}
    for part in cells.get("lora_targets", "").split("+"):
        if part in ("", "all"):
            return ("all-linear",)
        for matrix in shape.matrices:
            reads, letter = _PARTS.get(part, (None, ""))
            one_of_them = reads is matrix.reads and (shape.family.fused or matrix.name.startswith(letter))
            in_mlp = part == "mlp" and matrix.reads in (Reads.MLP_INPUT, Reads.MLP_INNER)
            named = f".{matrix.name}".endswith(f".{part}") or part.endswith(f".{matrix.name}")
            if one_of_them or in_mlp or named:
                names[matrix.name] = None
    return tuple(names)


def _word(cells: Mapping[str, str], column: str, known: Mapping[str, Any]) -> Any:
    value = cells.get(column, "")
    if value not in known:
        raise Unreadable(f"{column} is {value!r}; accepted are {', '.join(name for name in known if name)}")
    return known[value]


def _count(cells: Mapping[str, str], column: str, least: int) -> int:
    """A whole number; an empty cell is the least, but for what every run has."""
    value = cells.get(column, "")
    if not value and column not in REQUIRED:
        return least
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"{column} is {value!r}; accepted is a whole number of at least {least}")
    return number


def _peak(value: str) -> float | None:
    if not value or value.upper() == "OOM":
        return None
    try:
        peak = float(value)
    except ValueError:
        peak = -1
    if not 0 < peak < float("inf"):
        raise ValueError(f"peak_gib is {value!r}; accepted is a number of GiB above 0, or nothing")
    return peak
