"""The formats a row can come in: for each its columns, and one function that brings a row into an internal form.

To add a format is to add an entry to LAYOUTS and its function. It must never look at more than one row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from finetuned.v1 import training_pb2
from fttrain.data.forms import Chat, Form, Labelled, Message, Pair, Plain, Prompt, Tools
from fttrain.data.problems import BadRow, kind, listed, nearest
from fttrain.data.turns import USUAL, Spelling, chat, checked, conversation, declared, decoded, message, with_system

# No file has a column of this name.
_NO_COLUMN = "\0"
Format: TypeAlias = "training_pb2.Format.ValueType"


class Fields:
    """One row, read by the names of the format's fields, whatever the file calls its columns."""

    def __init__(self, row: Mapping[str, Any], names: Mapping[str, str], spelling: Spelling = USUAL) -> None:
        self._row = row
        self._names = names
        self._spelling = spelling

    def has(self, field: str) -> bool:
        """Whether the row has a value for the field; null is none."""
        return self._row.get(self.column(field)) is not None

    def column(self, field: str) -> str:
        """What the file calls the field."""
        return self._names.get(field, field)

    def value(self, field: str) -> Any:
        """The value. Raises BadRow if there is none."""
        column = self.column(field)
        if not self.has(field):
            found = "null" if column in self._row else f"missing; the row has {listed(map(str, self._row))}"
            raise BadRow(
                f"column {column!r} is {found}{'' if column in self._row else nearest(column, map(str, self._row))}"
            )
        return self._row[column]

    def text(self, field: str) -> str:
        """A string, which may be empty."""
        value = self.value(field)
        if not isinstance(value, str):
            raise BadRow(f"column {self.column(field)!r} is {kind(value)}; accepted is a string")
        return value

    def filled(self, field: str) -> str:
        """A string with something in it."""
        text = self.text(field)
        if not text.strip():
            raise BadRow(f"column {self.column(field)!r} is empty")
        return text

    def text_or_empty(self, field: str) -> str:
        """A string; empty where the row has none."""
        return self.text(field) if self.has(field) else ""

    def flag(self, field: str) -> bool:
        """True or false; in a CSV file, where every value is a string, one of these words."""
        value = self.value(field)
        known = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
        if not isinstance(known, bool):
            raise BadRow(f"column {self.column(field)!r} is {kind(value)}; accepted is true or false")
        return known

    def tools(self) -> Tools | None:
        """The functions that the row declares."""
        return declared(self.value("tools") if self.has("tools") else None)

    def turns(self, field: str) -> list[Message]:
        """The turns of a conversation."""
        return conversation(self.value(field), self.column(field), self._spelling)

    def turn(self, field: str) -> Message:
        """A single turn."""
        return message(self.value(field), f"column {self.column(field)!r}", self._spelling)


def _alpaca(row: Fields) -> Chat:
    answer = {"role": "assistant", "content": row.filled("output")}
    return chat([*_asked(row), answer], row.value("tools") if row.has("tools") else None)


def _turns(row: Fields) -> Chat:
    messages = with_system(row.turns("messages"), row.text_or_empty("system"))
    return chat(messages, row.value("tools") if row.has("tools") else None)


def _prompt_completion(row: Fields) -> Plain | Chat:
    if not any(isinstance(row.value(field), list) for field in ("prompt", "completion")):
        return Plain(row.filled("prompt"), row.filled("completion"))
    asked = (
        row.turns("prompt")
        if isinstance(row.value("prompt"), list)
        else [{"role": "user", "content": row.filled("prompt")}]
    )
    # Of a conversation too, the completion alone is trained on.
    muted = [{**turn, "train": False} if turn["role"] == "assistant" else turn for turn in asked]
    return chat([*muted, *_as_turns(_answer(row, "completion"))])


def _text(row: Fields) -> Plain:
    return Plain("", row.filled("text"))


def _preference(row: Fields) -> Pair:
    prompt, chosen, rejected = _prompt(row), _answer(row, "chosen"), _answer(row, "rejected")
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same; there is nothing to prefer")
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        return Pair(prompt, chosen, rejected)
    return _turn_pair(prompt, _as_turns(chosen), _as_turns(rejected), row.tools())


def _kto(row: Fields) -> Labelled:
    label = row.flag("label")
    prompt, completion = _prompt_and_answer(row)
    if isinstance(prompt, str) and isinstance(completion, str):
        return Labelled(prompt, completion, label)
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    completion = _as_turns(completion)
    checked([*prompt, *completion])
    return Labelled(prompt, completion, label, row.tools())


def _asking(row: Fields) -> Prompt:
    prompt = row.filled("prompt") if isinstance(row.value("prompt"), str) else row.turns("prompt")
    if isinstance(prompt, list):
        prompt = with_system(prompt, row.text_or_empty("system"))
        checked([*prompt, {"role": "assistant", "content": ""}])
    return Prompt(prompt, row.text_or_empty("answer"), row.tools())


def _prompt_and_answer(row: Fields) -> tuple[list[Message] | str, list[Message] | str]:
    if row.has("completion"):
        return _prompt(row), _answer(row, "completion")
    if row.has("output"):
        return _asked(row), [{"role": "assistant", "content": row.filled("output")}]
    if row.has("messages"):
        messages = with_system(row.turns("messages"), row.text_or_empty("system"))
        return messages[:-1], messages[-1:]
    raise BadRow("the row has no answer; accepted is completion, output, messages or conversations")


def _prompt(row: Fields) -> list[Message] | str:
    if row.has("messages"):
        return with_system(row.turns("messages"), row.text_or_empty("system"))
    if row.has("instruction"):
        return _asked(row)
    if row.has("prompt"):
        return row.filled("prompt") if isinstance(row.value("prompt"), str) else row.turns("prompt")
    return []


def _turn_pair(
    prompt: list[Message] | str, chosen: list[Message], rejected: list[Message], tools: Tools | None
) -> Pair:
    """Answers that repeat the whole conversation are parted from it: what both share is the prompt."""
    if chosen[0]["role"] != "assistant" and rejected[0]["role"] != "assistant":
        pairs = zip(chosen, rejected, strict=False)
        shared = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(chosen), len(rejected)))
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    elif isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not prompt:
        raise BadRow("the row has no prompt; accepted is prompt, messages, conversations or instruction")
    for answer in (chosen, rejected):
        checked([*prompt, *answer])
    return Pair(prompt, chosen, rejected, tools)


def _asked(row: Fields) -> list[Message]:
    """The turns before the answer of an alpaca row: system, history, instruction and input parted by a line end."""
    request = "\n".join(part for part in (row.text("instruction"), row.text_or_empty("input")) if part.strip())
    if not request:
        raise BadRow(f"column {row.column('instruction')!r} is empty")
    return with_system([*_history(row), {"role": "user", "content": request}], row.text_or_empty("system"))


def _history(row: Fields) -> list[Message]:
    column = row.column("history")
    rounds = decoded(row.value("history") or "[]", column) if row.has("history") else []
    if not isinstance(rounds, list):
        raise BadRow(f"column {column!r} is {kind(rounds)}; accepted is a list of [question, answer]")
    messages: list[Message] = []
    for number, pair in enumerate(rounds, 1):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise BadRow(f"round {number} of {column!r} is not a pair of strings; accepted is [question, answer]")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages


def _answer(row: Fields, field: str) -> list[Message] | str:
    value = row.value(field)
    if isinstance(value, str):
        return row.filled(field)
    return row.turns(field) if isinstance(value, list) else [row.turn(field)]


def _as_turns(answer: list[Message] | str) -> list[Message]:
    return [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer


@dataclass(frozen=True, slots=True)
class Layout:
    """A format: its columns, by the names in Columns, and how a row of it is read."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Fields], Form]
    # The file's usual name for the field `messages`.
    turns_column: str = "messages"
    # What other rows may have too: told by its columns only where the stage trains on such rows.
    told_where_taken: bool = False

    def names(self, columns: Mapping[str, str], found: Collection[str], *, only: bool = False) -> dict[str, str]:
        """What the file calls each field: as the spec says, else the usual name. `found`: the file's columns.

        `only`: there is no column but those the spec names.
        """
        if only:
            return {**dict.fromkeys((*self.required, *self.optional), _NO_COLUMN), **columns}
        usual = self.turns_column if self.turns_column in found or "messages" not in found else "messages"
        return {"messages": usual, **columns}

    def missing(self, columns: Mapping[str, str], found: Collection[str]) -> list[str]:
        """Required columns that the file does not have."""
        names = {"messages": self.turns_column, **columns}
        return [names.get(field, field) for field in self.required if names.get(field, field) not in found]


# Tried in this order when a source does not say: a preference row often has a prompt in another format.
LAYOUTS: dict[Format, Layout] = {
    training_pb2.FORMAT_PREFERENCE: Layout(
        "preference",
        ("chosen", "rejected"),
        ("prompt", "messages", "instruction", "input", "system", "history", "role", "content", "tools"),
        _preference,
        "conversations",
    ),
    training_pb2.FORMAT_KTO: Layout(
        "kto",
        ("label",),
        (
            *("prompt", "completion", "messages", "instruction", "input", "output", "system", "history"),
            *("role", "content", "tools"),
        ),
        _kto,
        "conversations",
        told_where_taken=True,
    ),
    training_pb2.FORMAT_SHAREGPT: Layout(
        "sharegpt", ("messages",), ("role", "content", "system", "tools"), _turns, "conversations"
    ),
    training_pb2.FORMAT_MESSAGES: Layout("messages", ("messages",), ("role", "content", "system", "tools"), _turns),
    training_pb2.FORMAT_PROMPT_COMPLETION: Layout(
        "prompt_completion", ("prompt", "completion"), (), _prompt_completion
    ),
    training_pb2.FORMAT_ALPACA: Layout(
        "alpaca", ("instruction", "output"), ("input", "system", "history", "tools"), _alpaca
    ),
    training_pb2.FORMAT_PROMPT: Layout(
        "prompt",
        ("prompt",),
        ("answer", "role", "content", "system", "tools"),
        _asking,
        told_where_taken=True,
    ),
    training_pb2.FORMAT_TEXT: Layout("text", ("text",), (), _text),
}
