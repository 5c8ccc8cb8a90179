"""The data sets of an axolotl file as sources of a spec: its named ways to write rows, by format and columns here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftctl.importing.dataset_info import ENDINGS
from ftctl.importing.place import tidy
from ftctl.importing.preferences import PAIRED
from ftctl.importing.report import Entry
from ftctl.importing.rules import Draft, differ, ignore, refuse, write
from ftctl.importing.values import mapping, text, word, words

# Of the named ways to read pairs: the column with the question.
_QUESTIONS = {"intel": "question", "argilla": "instruction", "icr": "input", "ultra": "prompt", "argilla_chat": ""}


def data(draft: Draft, key: str, value: Any, split: str) -> list[Entry]:
    """The sources of a split, and an entry for each key of each data set."""
    entries: list[Entry] = []
    sources: list[dict[str, Any]] = []
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("names no data set")
    for index, item in enumerate(items):
        given = {"path": item} if isinstance(item, str) else mapping(item)
        where = f"{draft.tool.spelled(key)}[{index}]"
        files = _files(draft, given)
        if not files:
            place = f"{draft.tool.spelled(key)}.{index}.path"
            instead = f"download it, and give its file ({', '.join(ENDINGS)}): --set {place}=FILE"
            entries.append(refuse(f"{where}.path", given.get("path"), "is not on this host", instead))
        made = _shape(draft, given)
        sources += [{"path": path, **made} for path in files]
        entries += [_part(draft, given, where, name, part) for name, part in given.items() if name != "path" or files]
    return [write(key, len(items), f"data.{split}", sources or None, "data sets"), *entries]


def _files(draft: Draft, given: Mapping[str, Any]) -> list[str]:
    """The absolute paths of the files of a data set; none if it is not made of files."""
    named = words(given.get("data_files") or given.get("path") or [])
    folder = text(given.get("path") or "")
    if given.get("data_files") and folder not in ("json", "csv", "parquet", "text"):
        named = [f"{folder}/{name}" if not Path(name).is_absolute() else name for name in named]
    if any(Path(name).suffix.lower() not in ENDINGS for name in named):
        return []
    return [str(draft.place.find(name) or tidy(draft.place.folder / name)) for name in named]


def _kind(given: Mapping[str, Any]) -> str:
    kind = given.get("type")
    return "custom" if isinstance(kind, Mapping) else text(kind or "")


def _shape(draft: Draft, given: Mapping[str, Any]) -> dict[str, Any]:
    """Format and columns of the rows."""
    kind = _kind(given)
    columns: dict[str, Any] = {}
    messages = text(given.get("field_messages") or "messages")
    keys = {"role": given.get("message_field_role"), "content": given.get("message_field_content")}
    keys |= given.get("message_property_mappings") or {}
    question = "input" if kind.startswith("bradley_terry") else _QUESTIONS.get(kind.rpartition(".")[2], "")
    if draft.stage == "kto":
        columns, usual, rows = {"prompt": question}, "", "kto"
    elif draft.stage in PAIRED:
        if kind.startswith("chat_template"):
            columns = {"messages": messages, **{name: given.get(f"field_{name}") for name in ("chosen", "rejected")}}
        else:
            columns = {"prompt": question}
        usual, rows = "conversations", "preference"
    elif draft.stage == "pretrain" or kind == "completion":
        columns = {"text": given.get("text_column") or given.get("field")}
        usual, rows = "", "text"
    elif kind.startswith("alpaca"):
        return {"format": "alpaca"}
    else:
        columns, usual, rows = {"messages": messages, **keys}, "messages", "messages"
    kept = {name: text(column) for name, column in columns.items() if column and column != name}
    if columns.get("messages") == usual:
        kept.pop("messages", None)
    elif columns.get("messages"):
        kept["messages"] = messages
    return {"format": rows, "columns": kept} if kept else {"format": rows}


def _part(draft: Draft, given: Mapping[str, Any], where: str, name: str, value: Any) -> Entry:
    key, kind = f"{where}.{name}", _kind(given)
    if value is None:
        return ignore(key, value, "empty: as if it were not there")
    if name in ("path", "data_files"):
        return write(key, value, "path", None, ", ".join(_files(draft, given)))
    if name == "type":
        return _type(draft, key, value, kind)
    if name in ("field_messages", "field_chosen", "field_rejected", "field", "text_column", "message_field_role"):
        return write(key, value, "columns", None)
    if name in ("message_field_content", "message_property_mappings"):
        return write(key, value, "columns", None)
    if name == "chat_template":
        return template(draft, key, value)
    if name == "roles_to_train":
        if words(value) in (["assistant"], ["gpt"], ["assistant", "gpt"]):
            return ignore(key, value, "as here: the assistant's turns")
        return refuse(key, value, "other turns than the assistant's cannot be chosen", "use train_on_inputs, or none")
    if name == "train_on_eos" and value in ("turn", "all"):
        return ignore(key, value, "as here: the end of each answer is trained on")
    if name in ("ds_type", "split", "name", "conversation", "trust_remote_code", "revision", "shards", "roles"):
        return _of_a_file(key, name, value)
    return refuse(key, value, "is no key of a data set that can be imported", "remove it")


def _of_a_file(key: str, name: str, value: Any) -> Entry:
    if name == "shards" and value not in (0, 1):
        return refuse(key, value, "a part of the rows cannot be taken", "use max_samples in the spec")
    if name == "roles" and set(mapping(value)) - {"user", "assistant", "system", "tool", "human", "gpt"}:
        return refuse(key, value, "speakers have their usual names", "rename them in the file")
    return ignore(key, value, "a local file tells")


def _type(draft: Draft, key: str, value: Any, kind: str) -> Entry:
    if draft.stage in (*PAIRED, "kto"):
        known = kind.startswith(("chat_template", "bradley_terry")) or kind.rpartition(".")[2] in _QUESTIONS
    elif draft.stage == "pretrain":
        known = kind in ("pretrain", "completion")
    else:
        known = kind in ("chat_template", "completion") or kind.startswith(("alpaca", "sharegpt"))
    if not known:
        return refuse(key, value, "this way to write rows is not there", "use chat_template with rows of messages")
    if kind.startswith("alpaca"):
        note = "prompts read differently; set data.chat_template_path to a Jinja file of it for the same"
        return differ(key, "### Instruction: … ### Response: …", "data.chat_template_path", note)
    return write(key, value, "format", None, _shape(draft, {"type": value})["format"])


def template(draft: Draft, key: str, value: Any) -> Entry:
    """A chat template by its name: those of models stand in their tokenizers."""
    name = word(value)
    if name == "tokenizer_default" or name.startswith("tokenizer_default_fallback"):
        return ignore(key, value, "as here: the tokenizer's own")
    if name == "jinja":
        return ignore(key, value, "chat_template_jinja tells")
    if name == "alpaca":
        return write(key, value, "data.template", name)
    return write(key, value, "data.chat_template_path", None, "the chat template of the model's tokenizer")
