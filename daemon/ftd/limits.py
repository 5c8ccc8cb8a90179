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
from ftd.optimizers import TABLE as OPTIMIZERS
from ftd.spec import Choice, JobSpec, choice_name

DATA_ENDINGS = (".json", ".jsonl", ".csv", ".txt", ".parquet", ".arrow")
# Files of text may also be compressed.
COMPRESSED = (".gz", ".zst")
_TABLES = (".parquet", ".arrow")
DATA_FILE = "a .json, .jsonl, .csv or .txt file, each also as .gz or .zst, or a .parquet or .arrow file"
SCHEDULES = (
    *("cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial", "cosine_with_restarts"),
    *("cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", "reduce_lr_on_plateau"),
)
ALL_LINEAR = "all-linear"
# TRL reads the head's weight past any adapter on it.
HEADS = ("lm_head", "embed_out")
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


def _is_pattern(text: str) -> bool:
    try:
        return bool(re.compile(text).pattern)
    except re.error:
        return False


def _ranks(ranks: Mapping[str, int]) -> bool:
    return all(_is_pattern(key) and 1 <= rank <= 1024 for key, rank in ranks.items())


def _alphas(alphas: Mapping[str, float]) -> bool:
    return all(_is_pattern(key) and _over_zero(alpha) for key, alpha in alphas.items())


def _labels(labels: Mapping[str, str]) -> bool:
    return len(labels) <= 32 and all(1 <= len(k) <= 63 and len(v) <= 63 for k, v in labels.items())


def _size(texts: Mapping[str, str]) -> int:
    return sum(len(k.encode()) + len(v.encode()) for k, v in texts.items())


NAME = Rule("1 to 63 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit", lambda x: bool(_NAME.fullmatch(x)))
SHA256 = Rule("64 hexadecimal digits, in small letters", lambda x: bool(re.fullmatch("[0-9a-f]{64}", x)))
HUB_NAME = Rule("a repository's name, owner/name", lambda x: bool(_HUB_ID.fullmatch(x)))
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
    "dataset": Rule(
        "the name of a data set that was uploaded, or its SHA-256", lambda x: NAME.test(x) or SHA256.test(x)
    ),
}
_RANK = Rule("1 to 1024", _at_least_one(1024))
_MODULES = Rule("different module names", _different)
_TARGETS = Rule(
    f"different module names but the head's, or {ALL_LINEAR!r} alone",
    lambda x: _different(x) and (ALL_LINEAR not in x or len(x) == 1) and not set(x) & set(HEADS),
)
_LORA = {
    "rank": _RANK,
    "alpha": OVER_ZERO,
    "dropout": SHARE,
    "target_modules": _TARGETS,
    "modules_to_save": _MODULES,
    "exclude_modules": _MODULES,
    "target_pattern": Rule("a regular expression", _is_pattern),
    "rank_pattern": Rule("regular expressions with ranks of 1 to 1024", _ranks),
    "alpha_pattern": Rule("regular expressions with numbers over 0", _alphas),
    "pissa_iterations": AT_LEAST_ONE,
    "layers": Rule("different numbers of layers, from 0", lambda x: len(set(x)) == len(x) and min(x, default=0) >= 0),
    "loraplus_lr_ratio": OVER_ZERO,
    "loraplus_embedding_lr": Rule("over 0 and at most 1", lambda x: 0 < x <= 1),
}
_BLOCK = Rule("2 to 4096", lambda x: 2 <= x <= 4096)
_TOKENS = _RANK
_METHODS = {
    "training.freeze.trainable_layers": Rule("a number other than 0", lambda x: x != 0),
    "training.freeze.modules": _MODULES,
    "training.freeze.extra_modules": _MODULES,
    **{f"training.{name}.target_modules": _TARGETS for name in ("adalora", "vera", "oft", "boft")},
    **{f"training.{name}.modules_to_save": _MODULES for name in ("adalora", "vera", "oft", "boft", "ia3")},
    **{f"training.{name}.dropout": SHARE for name in ("adalora", "vera", "oft", "boft")},
    "training.adalora.initial_rank": _RANK,
    "training.adalora.rank": _RANK,
    "training.adalora.alpha": OVER_ZERO,
    "training.adalora.initial_steps": ZERO_OR_MORE,
    "training.adalora.final_steps": ZERO_OR_MORE,
    "training.adalora.interval": AT_LEAST_ONE,
    "training.adalora.orthogonality": ZERO_OR_MORE,
    "training.vera.rank": Rule("1 to 4096", _at_least_one(4096)),
    "training.oft.block_size": _BLOCK,
    "training.oft.epsilon": OVER_ZERO,
    "training.boft.block_size": _BLOCK,
    "training.boft.factors": Rule("1 to 8", _at_least_one(8)),
    "training.ia3.target_modules": Rule(
        "different module names but the head's", lambda x: _TARGETS.test(x) and ALL_LINEAR not in x
    ),
    "training.ia3.feedforward_modules": _MODULES,
    **{f"training.{name}.virtual_tokens": _TOKENS for name in ("prefix_tuning", "prompt_tuning", "p_tuning")},
    **{f"training.{name}.encoder_hidden_size": AT_LEAST_ONE for name in ("prefix_tuning", "p_tuning")},
    "training.prompt_tuning.initial_text": Rule("a text that is not empty", lambda x: bool(x.strip())),
    "training.p_tuning.encoder_dropout": SHARE,
}
_BELOW_ONE = Rule("over 0 and less than 1", lambda x: 0 < x < 1)
_UP_TO_ONE = Rule("over 0 and at most 1", lambda x: 0 < x <= 1)
_ZERO_TO_ONE = Rule("0 to 1", lambda x: 0 <= x <= 1)
_PATTERN = Rule("1 to 1000 characters", lambda x: 1 <= len(x) <= 1000)
_SAMPLING = {
    "max_completion_length": AT_LEAST_ONE,
    "temperature": OVER_ZERO,
    "top_p": _UP_TO_ONE,
    "top_k": ZERO_OR_MORE,
    "repetition_penalty": OVER_ZERO,
}
_REWARD = {
    "name": NAME,
    "weight": Rule("a number that is not 0", lambda x: x != 0 and math.isfinite(x)),
    "exact_answer.pattern": _PATTERN,
    "regex_match.pattern": _PATTERN,
    "length_band.min_tokens": ZERO_OR_MORE,
    "length_band.max_tokens": AT_LEAST_ONE,
    "tag_format.tags": Rule(
        "different names of letters, digits and '_'",
        lambda x: _different(x) and all(re.fullmatch(r"[A-Za-z0-9_]{1,63}", tag) for tag in x),
    ),
    "json_valid.keys": Rule("different keys", _different),
    "user_function.function": Rule("the name of a function", str.isidentifier),
}
_SEVERAL = Rule("at least 2", lambda x: x >= 2)
_ITERATIONS = Rule("1 to 64", _at_least_one(64))
_ONLINE = {
    "grpo": {
        "generations": _SEVERAL,
        "beta": ZERO_OR_MORE,
        "epsilon": _BELOW_ONE,
        "epsilon_high": OVER_ZERO,
        "iterations": _ITERATIONS,
    },
    "rloo": {
        "generations": _SEVERAL,
        "beta": ZERO_OR_MORE,
        "epsilon": _BELOW_ONE,
        "epsilon_high": OVER_ZERO,
        "iterations": _ITERATIONS,
    },
    "ppo": {
        "beta": ZERO_OR_MORE,
        "epsilon": _BELOW_ONE,
        "value_epsilon": OVER_ZERO,
        "value_weight": OVER_ZERO,
        "gamma": _UP_TO_ONE,
        "gae_lambda": _ZERO_TO_ONE,
        "iterations": _ITERATIONS,
    },
    "distill": {"beta": _ZERO_TO_ONE},
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
    "training.model.hub_id": HUB_NAME,
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
    **{f"training.{stage}.{name}": rule for stage, rules in _ONLINE.items() for name, rule in rules.items()},
    **{f"training.{stage}.sampling.{name}": rule for stage in _ONLINE for name, rule in _SAMPLING.items()},
    **{
        f"training.{stage}.rewards[].{name}": rule
        for stage in ("grpo", "rloo", "ppo")
        for name, rule in _REWARD.items()
    },
    **{f"training.{method}.{name}": rule for method in ("lora", "qlora.lora") for name, rule in _LORA.items()},
    **_METHODS,
    "training.optimizer.name": Rule(f"one of {', '.join(OPTIMIZERS)}", lambda x: x in OPTIMIZERS),
    "training.optimizer.learning_rate": Rule("over 0 and at most 1", lambda x: 0 < x <= 1),
    "training.optimizer.weight_decay": ZERO_OR_MORE,
    "training.optimizer.beta1": SHARE,
    "training.optimizer.beta2": SHARE,
    "training.optimizer.epsilon": OVER_ZERO,
    "training.optimizer.max_grad_norm": ZERO_OR_MORE,
    "training.optimizer.momentum": SHARE,
    "training.optimizer.projection_rank": AT_LEAST_ONE,
    "training.optimizer.projection_interval": AT_LEAST_ONE,
    "training.optimizer.projection_scale": OVER_ZERO,
    "training.compute.neftune_noise_alpha": OVER_ZERO,
    "training.schedule.epochs": Rule("over 0 and at most 10000", lambda x: 0 < x <= 10000),
    "training.schedule.max_steps": AT_LEAST_ONE,
    "training.schedule.name": Rule(f"one of {', '.join(SCHEDULES)}", lambda x: x in SCHEDULES),
    "training.schedule.warmup_ratio": SHARE,
    "training.schedule.warmup_steps": ZERO_OR_MORE,
    "training.schedule.min_lr_ratio": SHARE,
    "training.schedule.restarts": AT_LEAST_ONE,
    "training.schedule.power": OVER_ZERO,
    "training.schedule.decay_ratio": Rule("over 0 and at most 1", lambda x: 0 < x <= 1),
    "training.schedule.plateau_factor": Rule("over 0 and less than 1", lambda x: 0 < x < 1),
    "training.schedule.plateau_patience": ZERO_OR_MORE,
    "training.batch.micro_batch": AT_LEAST_ONE,
    "training.batch.global_batch": AT_LEAST_ONE,
    "training.evaluation.every_steps": AT_LEAST_ONE,
    "training.evaluation.micro_batch": AT_LEAST_ONE,
    "training.evaluation.patience": AT_LEAST_ONE,
    "training.evaluation.min_delta": ZERO_OR_MORE,
    "training.evaluation.generation.max_rows": AT_LEAST_ONE,
    "training.evaluation.generation.max_new_tokens": AT_LEAST_ONE,
    "training.evaluation.generation.temperature": Rule("0 to 10", lambda x: 0 <= x <= 10),
    "training.evaluation.generation.top_p": Rule("over 0 and at most 1", lambda x: 0 < x <= 1),
    "training.evaluation.generation.stop": Rule(
        "at most 16 different words, none of them empty", lambda x: len(x) <= 16 and _different(x)
    ),
    "training.evaluation.generation.samples": Rule("0 to 20", lambda x: 0 <= x <= 20),
    "training.checkpoints.every_steps": AT_LEAST_ONE,
    "training.checkpoints.keep": AT_LEAST_ONE,
    "training.output.path": ABSOLUTE_PATH,
    "training.output.push.repository": HUB_NAME,
    "training.output.push.token_secret": NAME,
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
    if isinstance(value, tuple):
        # A member of an enum by its name in a spec.
        value = [str(each) if isinstance(each, str) else each for each in value]
    text = repr(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _leaves(record: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The path and value of each field that is set, down through all records."""
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            name = choice_name(value) if isinstance(value, Choice) else field.name
            yield from _leaves(value, f"{path}{name}.")
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            for index, item in enumerate(value):
                yield from _leaves(item, f"{path}{field.name}[{index}].")
        elif value is not None:
            yield path + field.name, value
