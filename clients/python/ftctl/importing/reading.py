"""From the text of a file to its report: YAML, JSON or a command line, whose tool is told or seen by its keys.

Raises FtError where there is nothing to report on: no mapping, no training, or a tool that nobody can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ftclient.errors import FtError
from ftctl.importing import commandline
from ftctl.importing.axolotl import AXOLOTL
from ftctl.importing.llamafactory import LLAMAFACTORY, V1, is_v1
from ftctl.importing.place import Place
from ftctl.importing.report import Report
from ftctl.importing.rules import Tool, run
from ftctl.importing.swift import SWIFT

TOOLS = {tool.name: tool for tool in (LLAMAFACTORY, SWIFT, AXOLOTL)}
# Keys that only one of the tools has.
_SIGNS = {
    "llamafactory": ("model_name_or_path", "finetuning_type", "stage", "dataset_dir", "cutoff_len", "export_dir"),
    "axolotl": ("base_model", "sequence_len", "micro_batch_size", "datasets", "val_set_size", "sample_packing"),
    "swift": (
        "tuner_type",
        "train_type",
        "sft_type",
        "rlhf_type",
        "split_dataset_ratio",
        "val_dataset",
        "loss_scale",
        "attn_impl",
        "target_modules",
        "model",
    ),
}


def report(
    text: str, source: str, place: Place, tool: str = "auto", overrides: Iterable[str] = (), info: Any = None
) -> Report:
    """The report of a file. `tool`: a name of TOOLS or auto; `info`: the path of a dataset_info.json."""
    keys, named = _keys(text, source, place)
    for override in overrides:
        _override(keys, override)
    chosen = named if tool == "auto" else tool
    found = TOOLS.get(chosen) or _seen(keys, source)
    if found is LLAMAFACTORY and is_v1(keys):
        found = V1
    return run(found, keys, place, {"dataset_info": info})


def _keys(text: str, source: str, place: Place) -> tuple[dict[str, Any], str]:
    """The keys, and the tool if a command names it."""
    if source.endswith((".sh", ".bash")) or text.startswith("#!"):
        return _of_a_script(text, source, place)
    read = _parse(text, source)
    if isinstance(read, Mapping):
        return _with_environment(read), ""
    if isinstance(read, str):
        return _of_a_script(text, source, place)
    raise FtError(f"{source} has no keys", why="it is not a mapping of names to values", advice="give a training file")


def _of_a_script(text: str, source: str, place: Place) -> tuple[dict[str, Any], str]:
    try:
        found = commandline.commands(text)
    except ValueError as error:
        raise FtError(f"cannot read {source}", why=str(error), advice="give one command line") from error
    if len(found) != 1:
        why = f"it starts {len(found)} of them: {', '.join(f'{c.tool} {c.verb}' for c in found)}" if found else ""
        raise FtError(
            f"{source} is not one training",
            why=why or "no command of llamafactory-cli, swift or axolotl is in it",
            advice="give a file with one of them, or the YAML or JSON file itself",
        )
    keys: dict[str, Any] = {}
    for name in found[0].files:
        path = place.find(name)
        content = place.look(path) if path else None
        if content is None:
            raise FtError(f"cannot read {name}, which {source} names", advice="give that file itself")
        read = _parse(content, name)
        keys |= _with_environment(read) if isinstance(read, Mapping) else {}
    return keys | found[0].keys, found[0].tool


def _with_environment(read: Mapping[Any, Any]) -> dict[str, Any]:
    """The keys of a mapping, those of an `ENV:` block as variables."""
    keys = {str(key): value for key, value in read.items()}
    block = keys.get("ENV")
    if isinstance(block, Mapping):
        del keys["ENV"]
        keys |= {f"${name}": value for name, value in block.items()}
    return keys


def _parse(text: str, source: str) -> Any:
    """The YAML or JSON document as plain values."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise FtError(f"cannot read {place}", why=str(error.problem), advice="correct the YAML") from error
    except YAMLError as error:
        raise FtError(f"cannot read {source}", why=str(error).splitlines()[0], advice="correct the YAML") from error


def _override(keys: dict[str, Any], override: str) -> None:
    """Sets a key, or with points a place inside its value, to a value in YAML; null takes it away."""
    path, equals, text = override.partition("=")
    parts = re.findall(r"[^.\[\]]+", path)
    if not equals or not parts:
        raise FtError(f"--set {override}: expected KEY=VALUE", advice="e.g. --set learning_rate=1e-5")
    node: Any = keys
    try:
        for part in parts[:-1]:
            node = node[int(part)] if isinstance(node, list) else node[part]
        last: Any = int(parts[-1]) if isinstance(node, list) else parts[-1]
        node[last] = _parse(text, f"--set {override}")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise FtError(f"--set {override}: there is no such place in the file") from error


def _seen(keys: Mapping[str, Any], source: str) -> Tool:
    """The tool that has most of the keys that only one has."""
    counted = {name: sum(sign in keys for sign in signs) for name, signs in _SIGNS.items()}
    best = max(counted, key=lambda name: counted[name])
    if is_v1(keys):
        return LLAMAFACTORY
    if not counted[best] or list(counted.values()).count(counted[best]) > 1:
        raise FtError(
            f"cannot tell which tool {source} is for",
            why=f"its keys are {', '.join(list(keys)[:8])}",
            advice=f"say it with --from: {', '.join(TOOLS)}",
        )
    return TOOLS[best]
