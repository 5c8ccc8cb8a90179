"""What the daemon may know of a model folder without torch: its configuration, and whether what it needs is there.

Reads the small JSON files only, each of a bounded size; weights are seen, never opened. Problems come all at once, in
words for who named the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftd.paths import PathRefused, Roots
from ftd.secrets import Secrets

_MIB = 1024**2
_CONFIG_LIMIT = _MIB
# Large ones list every added token, or every tensor.
_TOKENIZER_CONFIG_LIMIT = 16 * _MIB
_INDEX_LIMIT = 64 * _MIB

_CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_INDEX = "model.safetensors.index.json"
_TEMPLATE = "chat_template.jinja"
_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
# Any one of them is a vocabulary that transformers can build a tokenizer from.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
# Decoders that transformers has no scaled_dot_product_attention for; a test compares the list with the library.
WITHOUT_SDPA = frozenset(
    {
        *("bloom", "deepseek_v4", "flint", "gemma2", "gpt_neo", "gpt_neox_japanese", "gpt_oss", "granite_swa"),
        *("granitemoe_swa", "hy_v4", "inkling2_loop_text", "inkling2_text", "mimo_v2_flash", "mpt", "openai-gpt"),
        *("vaultgemma", "xglm"),
    }
)
# Models whose attention cannot be told where rows end, and so must have padding; the same test compares.
WITH_PADDING = frozenset(
    {
        *("axk2", "bailing_hybrid", "bamba", "bart", "biogpt", "blenderbot", "blenderbot-small", "blt"),
        *("deepseek_v32", "doge", "dots3_note", "dots3_note_text", "falcon", "falcon_h1", "gemma3", "gemma4"),
        *("gemma4_unified", "glm_moe_dsa", "inkling_text", "jamba", "kimi_linear", "lara_mini", "llama4"),
        *("llama4_text", "marian", "mbart", "minimax_m3_vl_text", "mllama", "musicgen", "musicgen_melody"),
        *("nemotron_h", "olmo_hybrid", "pegasus", "plbart", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text"),
        *("qwen3_5_text", "qwen3_next", "qwen4_exp", "qwen4_exp_text", "stablelm", "whisper", "zamba", "zamba2"),
    }
)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What the host's owner lets a job do."""

    allow_remote_code: bool = False
    allow_hub: bool = False
    # Beginnings of the URLs that rows may be fetched from.
    data_urls: tuple[str, ...] = ()
    # Folders with Python files that jobs may run functions of.
    code_roots: tuple[Path, ...] = ()
    secrets: Secrets = field(default_factory=Secrets)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as its folder describes it."""

    config: Mapping[str, Any]
    has_chat_template: bool

    @property
    def layers(self) -> int | None:
        """Number of layers, where the configuration says."""
        return self._number("num_hidden_layers", "n_layer")

    @property
    def has_sdpa(self) -> bool:
        """Whether PyTorch's attention kernels work for it."""
        return self.config.get("model_type") not in WITHOUT_SDPA

    @property
    def needs_padding(self) -> bool:
        """Whether the rows of a batch must be padded to one length."""
        layers = set(self.config.get("layer_types") or ())
        return not self.has_sdpa or self.config.get("model_type") in WITH_PADDING or bool(layers - _ATTENTION_LAYERS)

    @property
    def max_length(self) -> int | None:
        """Longest sequence in tokens, where the configuration says."""
        return self._number("max_position_embeddings", "n_positions")

    def _number(self, *names: str) -> int | None:
        """The first of these keys with a count; models with more than text nest them."""
        nested = self.config.get("text_config")
        for config in (self.config, nested if isinstance(nested, dict) else {}):
            for name in names:
                if isinstance(config.get(name), int) and config[name] > 0:
                    return int(config[name])
        return None


def read_model(path: str, roots: Roots, policy: HostPolicy) -> tuple[ModelInfo | None, list[str]]:
    """The model at `path` and everything that is wrong with it; the model is None if it cannot be described."""
    try:
        folder = roots.open(path, "folder")
    except PathRefused as refused:
        return None, [str(refused)]
    try:
        names = frozenset(os.listdir(folder))  # noqa: PTH208 - of the opened descriptor
    finally:
        os.close(folder)
    reader = _Folder(path, names, roots)
    problems = [*_weights(reader), *_tokenizer(reader)]
    config = reader.json(_CONFIG, _CONFIG_LIMIT, problems)
    tokenizer = reader.json(_TOKENIZER_CONFIG, _TOKENIZER_CONFIG_LIMIT, problems) or {}
    if _CONFIG not in names:
        problems.append(_no_config(names))
    if config is not None and not isinstance(config.get("model_type"), str):
        problems.append("has a config.json without model_type; accepted is the folder of a transformers model")
    if not policy.allow_remote_code:
        problems += _remote_code({_CONFIG: config or {}, _TOKENIZER_CONFIG: tokenizer})
    if config is None:
        return None, problems
    return ModelInfo(config, _TEMPLATE in names or bool(tokenizer.get("chat_template"))), problems


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    names: Collection[str]
    roots: Roots

    def json(self, name: str, limit: int, problems: list[str]) -> dict[str, Any] | None:
        """The object in a JSON file; None if there is no such file, or none that can be used, which is a problem."""
        if name not in self.names:
            return None
        try:
            content = json.loads(self.roots.read(os.path.join(self.path, name), limit))  # noqa: PTH118 - a str stays one
        except PathRefused as refused:
            problems.append(f"has a {name} that {refused}")
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            problems.append(f"has a {name} that is not JSON: {error.msg} at {place}; accepted is an object")
        except (UnicodeDecodeError, RecursionError):
            problems.append(f"has a {name} that is not JSON; accepted is an object")
        else:
            if isinstance(content, dict):
                return content
            problems.append(f"has a {name} that is not an object; accepted is an object")
        return None


def _no_config(names: Collection[str]) -> str:
    if "adapter_config.json" in names:
        return "is the folder of an adapter, which has no model in it; accepted is the folder of its base model"
    return "has no config.json; accepted is the folder of a transformers model: config.json, *.safetensors, tokenizer"


def _weights(folder: _Folder) -> Iterator[str]:
    if any(name.endswith(".safetensors") for name in folder.names):
        found: list[str] = []
        shards = (folder.json(_INDEX, _INDEX_LIMIT, found) or {}).get("weight_map")
        yield from found
        missing = sorted(set(map(str, shards.values())) - set(folder.names)) if isinstance(shards, dict) else []
        if missing:
            yield f"lacks {len(missing)} of its weight files, e.g. {missing[0]}; accepted is a complete model"
        return
    pickles = sorted(name for name in folder.names if name.startswith("pytorch_model"))
    if not pickles:
        yield "has no weights; accepted are *.safetensors files"
    else:
        yield f"has its weights in {pickles[0]}, which may run code when they are read; accepted are *.safetensors"


def _tokenizer(folder: _Folder) -> Iterator[str]:
    if not any(name in folder.names for name in _TOKENIZERS):
        yield f"has no tokenizer; accepted is one of {', '.join(_TOKENIZERS)}"


def _remote_code(configs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, config in configs.items():
        if config.get("auto_map"):
            yield (
                f"brings code of its own (auto_map in {name}), which this host does not run; "
                "accepted is a model that transformers knows"
            )
