"""LLaMA-Factory's keys about data: the named sets, how they are mixed, shortened, packed, rendered and masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftctl.importing import dataset_info
from ftctl.importing.place import tidy
from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, Rule, differ, ignore, refuse, write
from ftctl.importing.values import flag, integer, number, text, word, words

# Templates that no tokenizer carries: the prompt will read differently.
_GENERIC = ("fewshot", "belle", "aquila", "ziya", "original")
# Those of them that have a name here.
_NAMED = ("alpaca", "default", "empty", "vicuna")
MIXINGS = ("interleave_under", "interleave_over")


def data(draft: Draft, key: str, value: Any, split: str) -> list[Entry]:
    """The named data sets, looked up in dataset_info.json."""
    folder = draft.get("dataset_dir", text, "data")
    path = draft.files.get("dataset_info") or draft.place.find(f"{folder}/dataset_info.json")
    if path is None:
        why = f"no dataset_info.json in {folder!r}, so nobody knows which files these are"
        return [refuse(key, value, why, "give it with --dataset-info")]
    info = dataset_info.load(path, draft.place.look)
    entries: list[Entry] = []
    sources: list[dict[str, Any]] = []
    if not words(value):
        raise ValueError("names no data set")
    for name in words(value):
        given = info.sets.get(name)
        if not isinstance(given, Mapping):
            entries.append(refuse(key, value, f"{path} has no data set {name!r}", f"it has {', '.join(info.sets)}"))
            continue
        path_of = tidy(info.folder / str(given.get("file_name", "")))
        found = dataset_info.DataSet(name, given, path_of, draft.stage)
        made, told = dataset_info.source(found, draft.place, draft.get("max_samples", integer, None))
        sources += [made] if made else []
        entries += told
    if split == "train":
        _weigh(draft, sources)
    return [write(key, value, f"data.{split}", sources or None, f"by {path}"), *entries]


def _weigh(draft: Draft, sources: list[dict[str, Any]]) -> None:
    """How often each source is drawn, where they are interleaved."""
    none: list[float] = []
    shares = draft.get("interleave_probs", lambda value: [float(number(each)) for each in words(value)], none)
    if draft.get("mix_strategy", word, "concat") in MIXINGS and len(shares) == len(sources):
        for source, share in zip(sources, shares, strict=True):
            source["weight"] = share


def mixing(draft: Draft, key: str, value: Any) -> Entry:
    """How the sets come together."""
    name = word(value)
    if name == "concat":
        return ignore(key, value, "as here: all rows of all sets, shuffled by the seed")
    if name == "interleave_once":
        return ignore(key, value, "every row of every set once, in an order that the seed shuffles: as here")
    if name not in MIXINGS:
        raise ValueError(f"expected one of concat, interleave_once, {', '.join(MIXINGS)}")
    return write(key, value, "data.mixing", name)


def cutoff(draft: Draft, key: str, value: Any) -> Entry:
    """The longest row, in tokens."""
    length = integer(value)
    if draft.on("packing") or draft.on("neat_packing"):
        return write(key, value, "data.max_length", length - 1, "one less: LLaMA-Factory takes one off when it packs")
    note = "a row over it is cut at the end; LLaMA-Factory shortens question and answer in proportion"
    return write(key, value, "data.max_length", length, "" if draft.stage == "pretrain" else note)


def cutoff_default(draft: Draft) -> Any:
    """What it is by itself, where that is not what it is here."""
    return 2048 if draft.on("packing") or draft.on("neat_packing") else None


def packing(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    """Rows joined to long sequences."""
    if draft.stage not in ("sft", "pretrain"):
        return ignore(key, value, f"the rows of {draft.stage} are not packed, there either")
    if not flag(value):
        return write(key, value, "data.packing", False)
    if draft.stage == "sft":
        dropped = write(key, value, "data.long_rows", "drop", "a row that is too long to be packed is left out there")
        return [write(key, value, "data.packing", True), dropped]
    return write(key, value, "data.packing", True, "whole texts, best fit; LLaMA-Factory cuts one long string of them")


def template(draft: Draft, key: str, value: Any) -> Entry:
    """A template by its name: those of models stand in their tokenizers."""
    name = word(value)
    if draft.stage == "pretrain":
        return ignore(key, value, "plain text has no template")
    if name in _NAMED:
        return write(key, value, "data.template", name)
    if name in _GENERIC:
        note = "prompts read differently; set data.chat_template_path to a Jinja file of it for the same"
        return differ(key, f"the template {name}", "data.chat_template_path", note)
    return write(key, value, "data.chat_template_path", None, "the chat template of the model's tokenizer")


def train_on(what: str) -> Rule:
    """A switch that says which turns are trained on."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if not flag(value):
            return ignore(key, value, "as here")
        return write(key, value, "sft.train_on", what)

    return Rule(apply)


def eval_split(draft: Draft, key: str, value: Any) -> Entry:
    """The share of the rows held back for evaluation."""
    size = number(value)
    if size >= 1:
        return refuse(key, value, "is a number of rows; a share is accepted", "divide it by the number of rows")
    return write(key, value, "data.eval_split", float(size)) if size else ignore(key, value, "0: none, as here")


def of_conversations(path: str, read: Callable[[Any], Any]) -> Rule:
    """The value goes to a field that only conversations have."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.stage == "pretrain":
            return ignore(key, value, "plain text has no conversations")
        return write(key, value, path, read(value))

    return Rule(apply)
