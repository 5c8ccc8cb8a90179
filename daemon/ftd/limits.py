"""What one field of a spec accepts by itself: a table from the field's path to a rule, and the walk that applies it.

How fields go together is `ftd.validate`'s. Nothing here touches the system, or fills in a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import PurePosixPath
from typing import Any

from ftd.errors import Violation
from ftd.methods import Method
from ftd.spec import JobSpec, choice_name
from ftd.stages import Stage
from ftd.trackers import Kind

DATA_ENDINGS = (".json", ".jsonl", ".csv", ".txt", ".parquet", ".arrow")
# Files of text may also be compressed.
COMPRESSED = (".gz", ".zst")
_TABLES = (".parquet", ".arrow")
DATA_FILE = "a .json, .jsonl, .csv or .txt file, each also as .gz or .zst, or a .parquet or .arrow file"
# The ones with two running averages, whose betas and epsilon a spec may set.
ADAM_OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit")
OPTIMIZERS = (*ADAM_OPTIMIZERS, "adafactor", "sgd")
SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial")
ALL_LINEAR = "all-linear"
# Names of chat templates, as files of the preparation have them.
TEMPLATES = (
    *("alpaca", "chatml", "cohere", "deepseek", "deepseek3", "deepseekr1", "default", "empty", "falcon", "gemma"),
    *("gemma2", "gemma3", "granite3", "intern2", "llama2", "llama3", "llama4", "mistral", "mistral_small", "openchat"),
    *("phi", "phi4", "phi4_mini", "qwen", "qwen3", "qwen3_nothink", "smollm", "solar", "vicuna", "yi", "zephyr"),
)

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+/\S+", re.ASCII)
_WEB_ADDRESS = re.compile(r"https?://[^\s@]{1,500}")
_SHOWN_CHARACTERS = 80
# Longer ones the kernel refuses (PATH_MAX).
_PATH_BYTES = 4095
# Seconds since the epoch; a Timestamp holds no more.
_YEAR_10000 = 253_402_300_800


@dataclass(frozen=True, slots=True)
class Rule:
    """What a field accepts, in words and as a test. No number that is not finite passes any of the tests."""

    accepted: str
    test: Callable[[Any], bool]


def is_usable_path(path: str) -> bool:
    """Whether a path can be handed to the kernel and means the same to every process."""
    return path.startswith("/") and "\0" not in path and len(path.encode()) <= _PATH_BYTES


def ending(path: str) -> str:
    """The ending that tells the kind of a file, e.g. ".jsonl", also of one that is compressed."""
    whole = PurePosixPath(path)
    compressed = whole.suffix.lower() in COMPRESSED
    kind = PurePosixPath(whole.stem if compressed else whole.name).suffix.lower()
    return "" if compressed and kind in _TABLES else kind


def is_url(path: str) -> bool:
    """Whether a path is a URL's text."""
    return bool(_URL.match(path)) and "\0" not in path and len(path.encode()) <= _PATH_BYTES


def _at_least_one(high: float = math.inf) -> Callable[[Any], bool]:
    return lambda x: 1 <= x <= high


def _over_zero(x: float) -> bool:
    return 0 < x < math.inf


def _zero_or_more(x: float) -> bool:
    return 0 <= x < math.inf


def _share(x: float) -> bool:
    return 0 <= x < 1


def _different(names: tuple[str, ...]) -> bool:
    return all(names) and len(set(names)) == len(names)


def _labels(labels: Mapping[str, str]) -> bool:
    return len(labels) <= 32 and all(1 <= len(k) <= 63 and len(v) <= 63 for k, v in labels.items())


def _size(texts: Mapping[str, str]) -> int:
    return sum(len(k.encode()) + len(v.encode()) for k, v in texts.items())


NAME = Rule("1 to 63 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit", lambda x: bool(_NAME.fullmatch(x)))
ABSOLUTE_PATH = Rule("an absolute path", is_usable_path)
SHARE = Rule("0 or more and less than 1", _share)
OVER_ZERO = Rule("a number over 0", _over_zero)
ZERO_OR_MORE = Rule("0 or more", _zero_or_more)
SMOOTHING = Rule("0 or more and less than 0.5", lambda x: 0 <= x < 0.5)
TIME = Rule("a time in the years 1970 to 9999", lambda x: 0 <= x < _YEAR_10000)
AT_LEAST_ONE = Rule("at least 1", _at_least_one())
SHORT = Rule("1 to 128 characters", lambda x: 1 <= len(x) <= 128)
WEB_ADDRESS = Rule("an http or https address without a password", lambda x: bool(_WEB_ADDRESS.fullmatch(x)))

_SOURCE = {
    "path": Rule(
        "the absolute path of a file, a folder or a pattern, or a URL", lambda x: is_usable_path(x) or is_url(x)
    ),
    "weight": Rule("over 0 and at most 100", lambda x: 0 < x <= 100),
    "max_samples": AT_LEAST_ONE,
    "name": Rule("1 to 63 characters", lambda x: 1 <= len(x) <= 63),
    "num_samples": AT_LEAST_ONE,
    "eval_split": SHARE,
}
_LORA = {
    "rank": Rule("1 to 1024", _at_least_one(1024)),
    "alpha": OVER_ZERO,
    "dropout": SHARE,
    "target_modules": Rule(
        f"different module names, or {ALL_LINEAR!r} alone",
        lambda x: _different(x) and (ALL_LINEAR not in x or len(x) == 1),
    ),
    "modules_to_save": Rule("different module names", _different),
}
RULES: dict[str, Rule] = {
    "name": NAME,
    "project": NAME,
    "labels": Rule("at most 32, with keys of 1 to 63 and values of up to 63 characters", _labels),
    "annotations": Rule("at most 16 KiB of keys and values together", lambda x: _size(x) <= 16 * 1024),
    "external_id": Rule("at most 128 characters", lambda x: len(x) <= 128),
    "priority": Rule("-100 to 100", lambda x: -100 <= x <= 100),
    "max_retries": Rule("0 to 20", lambda x: 0 <= x <= 20),
    "after[].job": Rule("the id, a prefix of the id, or the name of a job", bool),
    "not_before": TIME,
    "deadline": TIME,
    "trackers[].tensorboard.directory": ABSOLUTE_PATH,
    **{f"trackers[].{name}.project": SHORT for name in ("wandb", "trackio")},
    "trackers[].wandb.entity": SHORT,
    "trackers[].wandb.base_url": WEB_ADDRESS,
    "trackers[].wandb.api_key_secret": NAME,
    "trackers[].mlflow.tracking_uri": WEB_ADDRESS,
    "trackers[].mlflow.experiment": SHORT,
    "trackers[].mlflow.token_secret": NAME,
    "training.model.path": ABSOLUTE_PATH,
    "training.model.hub_id": Rule("a repository's name, owner/name", lambda x: bool(_HUB_ID.fullmatch(x))),
    **{f"training.data.{split}[].{name}": rule for split in ("train", "eval") for name, rule in _SOURCE.items()},
    "training.data.eval_split": SHARE,
    "training.data.chat_template_path": ABSOLUTE_PATH,
    "training.data.template": Rule(f"one of {', '.join(TEMPLATES)}", lambda x: x in TEMPLATES),
    "training.data.default_system": Rule("a text that is not empty", lambda x: bool(x.strip())),
    "training.sft.roles": Rule("different roles", lambda x: len(set(x)) == len(x)),
    "training.data.max_length": Rule("at least 8", lambda x: x >= 8),
    **{f"training.{stage}.beta": OVER_ZERO for stage in ("dpo", "kto", "orpo", "cpo")},
    **{f"training.{stage}.label_smoothing": SMOOTHING for stage in ("dpo", "cpo")},
    "training.dpo.losses[].weight": OVER_ZERO,
    "training.dpo.ld_alpha": Rule("0 to 1", lambda x: 0 <= x <= 1),
    "training.reward.center_coefficient": ZERO_OR_MORE,
    "training.kto.desirable_weight": OVER_ZERO,
    "training.kto.undesirable_weight": OVER_ZERO,
    "training.cpo.nll_weight": ZERO_OR_MORE,
    "training.cpo.gamma": ZERO_OR_MORE,
    **{f"training.{method}.{name}": rule for method in ("lora", "qlora.lora") for name, rule in _LORA.items()},
    "training.freeze.trainable_layers": AT_LEAST_ONE,
    "training.optimizer.name": Rule(f"one of {', '.join(OPTIMIZERS)}", lambda x: x in OPTIMIZERS),
    "training.optimizer.learning_rate": Rule("over 0 and at most 1", lambda x: 0 < x <= 1),
    "training.optimizer.weight_decay": ZERO_OR_MORE,
    "training.optimizer.beta1": SHARE,
    "training.optimizer.beta2": SHARE,
    "training.optimizer.epsilon": OVER_ZERO,
    "training.optimizer.max_grad_norm": ZERO_OR_MORE,
    "training.schedule.epochs": Rule("over 0 and at most 10000", lambda x: 0 < x <= 10000),
    "training.schedule.max_steps": AT_LEAST_ONE,
    "training.schedule.name": Rule(f"one of {', '.join(SCHEDULES)}", lambda x: x in SCHEDULES),
    "training.schedule.warmup_ratio": SHARE,
    "training.schedule.warmup_steps": ZERO_OR_MORE,
    "training.batch.micro_batch": AT_LEAST_ONE,
    "training.batch.global_batch": AT_LEAST_ONE,
    "training.evaluation.every_steps": AT_LEAST_ONE,
    "training.evaluation.micro_batch": AT_LEAST_ONE,
    "training.evaluation.patience": AT_LEAST_ONE,
    "training.evaluation.min_delta": ZERO_OR_MORE,
    "training.checkpoints.every_steps": AT_LEAST_ONE,
    "training.checkpoints.keep": AT_LEAST_ONE,
    "training.output.path": ABSOLUTE_PATH,
    "training.output.max_shard_bytes": Rule("at least 1048576, a MiB", lambda x: x >= 2**20),
    "training.resources.gpus": AT_LEAST_ONE,
    "training.resources.memory_bytes": OVER_ZERO,
    "training.resources.gpu_uuids": Rule("different UUIDs of GPUs", _different),
    "training.seed": Rule("0 to 4294967295", lambda x: 0 <= x < 2**32),
}


def broken_limits(spec: JobSpec) -> Iterator[Violation]:
    """A violation for each field that its rule refuses."""
    for path, value in _leaves(spec, ""):
        rule = RULES.get(re.sub(r"\[\d+\]", "[]", path))
        if rule and not rule.test(value):
            yield Violation(path, f"is {shown(value)}; accepted is {rule.accepted}")


def shown(value: object) -> str:
    """A value as a message may quote it: never more than a line."""
    text = repr(dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _leaves(record: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The path and value of each field that is set, down through all records."""
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            name = choice_name(value) if isinstance(value, Stage | Method | Kind) else field.name
            yield from _leaves(value, f"{path}{name}.")
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for index, item in enumerate(value):
                yield from _leaves(item, f"{path}{field.name}[{index}].")
        elif value is not None:
            yield path + field.name, value
