"""Conversations: brings turns of either common spelling into messages for a chat template and checks who speaks when.

`{from, value}` with human and gpt, `{role, content}` with user and assistant; function calls of both. It must never
guess at a turn it does not understand: the row is left out and says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fttrain.data.forms import Chat, Message, Tools
from fttrain.data.problems import BadRow, kind, listed, nearest

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
}
_CALL = "function_call"
# What files call the thinking of a turn.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_SPEAKERS = {**_ROLES, _CALL: _CALL}

# Who may speak after whom; None is the beginning.
_AFTER: dict[str | None, tuple[str, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a file writes turns: the keys of who speaks and of what is said, if unusual, and the role of each speaker."""

    role: str | None = None
    content: str | None = None
    speakers: Mapping[str, str] = field(default_factory=lambda: _SPEAKERS)


USUAL = Spelling()


def conversation(turns: object, column: str, spelling: Spelling = USUAL) -> list[Message]:
    """Messages; one that says whether it is to be trained on has that as `train`."""
    turns = decoded(turns, column)
    if not isinstance(turns, list):
        raise BadRow(f"column {column!r} is {kind(turns)}; accepted is a list of turns")
    if not turns:
        raise BadRow(f"column {column!r} is an empty list")
    return [message(turn, f"turn {index} of {column!r}", spelling) for index, turn in enumerate(turns, 1)]


def message(turn: object, where: str, spelling: Spelling = USUAL) -> Message:
    """One turn as a message."""
    if not isinstance(turn, Mapping):
        raise BadRow(f"{where} is {kind(turn)}; accepted is an object with role and content, or from and value")
    speaker_key = spelling.role or ("role" if "role" in turn else "from")
    content_key = spelling.content or ("content" if "content" in turn or "role" in turn else "value")
    speaker = turn.get(speaker_key)
    if not isinstance(speaker, str):
        raise BadRow(f"{where} has no {speaker_key!r}; it has {listed(turn)}")
    role = spelling.speakers.get(speaker)
    rest: Message = dict(_trained(turn, where))
    if role == _CALL:
        return {"role": "assistant", "content": "", "tool_calls": _shared_call(turn.get(content_key), where), **rest}
    if role is None:
        raise BadRow(
            f"{where} has the unknown role {speaker!r}{nearest(speaker, spelling.speakers)}; "
            f"accepted are {listed(spelling.speakers)}"
        )
    rest |= {key: turn[key] for key in ("name", "tool_call_id") if turn.get(key) is not None}
    if (thought := next((turn[key] for key in _THOUGHTS if turn.get(key) is not None), None)) is not None:
        if not isinstance(thought, str):
            raise BadRow(f"what is thought in {where} is {kind(thought)}; accepted is a string")
        rest["reasoning_content"] = thought
    calls = turn.get("tool_calls")
    if calls:
        rest["tool_calls"] = _openai_calls(calls, where)
    return {"role": role, "content": _said(turn, content_key, where, may_be_empty=bool(calls)), **rest}


def checked(messages: Sequence[Message]) -> None:
    """Raises BadRow unless the turns are in an order that can be learnt from and end with the assistant's."""
    before: str | None = None
    for index, turn in enumerate(messages, 1):
        role = turn["role"]
        answers_nothing = role == "tool" and before == "assistant" and not messages[index - 2].get("tool_calls")
        if role not in _AFTER[before] or answers_nothing:
            place = f"after the {before}'s" if before else "first"
            accepted = ("user",) if answers_nothing else _AFTER[before]
            raise BadRow(f"turn {index} is the {role}'s, {place}; accepted there is {' or '.join(accepted)}")
        before = role
    if before != "assistant":
        raise BadRow(f"the last turn is the {before}'s; accepted is one of the assistant")


def with_system(messages: list[Message], system: str) -> list[Message]:
    """Puts a system prompt before the turns, unless they bring their own or there is none."""
    own = messages and messages[0]["role"] == "system"
    return messages if own or not system.strip() else [{"role": "system", "content": system}, *messages]


def chat(messages: list[Message], tools: object = None) -> Chat:
    """A checked conversation, with the tools its row declares."""
    checked(messages)
    return Chat(messages, declared(tools))


def declared(tools: object) -> Tools | None:
    """The declarations in a `tools` column: a list, or a list written as a JSON string; bare functions are wrapped."""
    tools = decoded(tools, "tools") if tools else None
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"column 'tools' is {kind(tools)}; accepted is a list of function declarations")
    whole = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    for number, tool in enumerate(whole, 1):
        if not isinstance(tool["function"], dict) or not isinstance(tool["function"].get("name"), str):
            raise BadRow(f"function {number} in column 'tools' has no name; accepted is an object with name")
    return whole


def decoded(value: object, column: str) -> object:
    """A list or object that was written as a JSON string, as in CSV files, read; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise BadRow(f"column {column!r} is a string that is not JSON: {error.msg} at column {error.colno}") from error


def _trained(turn: Mapping[str, Any], where: str) -> dict[str, bool]:
    """Whether the turn says that it is to be trained on, or not to be; OpenAI's weight only says the latter."""
    for key in ("train", "loss"):
        if (wish := turn.get(key)) is not None:
            if not isinstance(wish, bool):
                raise BadRow(f"{key!r} of {where} is {kind(wish)}; accepted is true or false")
            return {"train": wish}
    weight = turn.get("weight")
    if weight not in (None, 0, 1):
        raise BadRow(f"'weight' of {where} is {weight!r:.20}; accepted is 0 or 1")
    return {"train": False} if weight == 0 else {}


def _said(turn: Mapping[str, Any], key: str, where: str, *, may_be_empty: bool) -> str:
    said = turn.get(key)
    if may_be_empty and said is None:
        return ""
    if isinstance(said, list):
        said = _joined(said, f"{key!r} of {where}")
    if not isinstance(said, str):
        found = f"is {kind(said)}" if key in turn else f"is missing (the turn has {listed(turn)})"
        raise BadRow(f"{key!r} of {where} {found}; accepted is a string")
    if not said.strip() and not may_be_empty:
        raise BadRow(f"{key!r} of {where} is empty")
    return said


def _joined(parts: list[Any], where: str) -> str:
    """OpenAI's parts of a message, where they are texts."""
    for number, part in enumerate(parts, 1):
        found = part.get("type") if isinstance(part, dict) else kind(part)
        if found != "text" or not isinstance(part.get("text"), str):
            raise BadRow(f"part {number} of {where} is {found}; accepted is a string, or parts of type text")
    return "".join(part["text"] for part in parts)


def _shared_call(value: object, where: str) -> list[dict[str, Any]]:
    """ShareGPT's function_call turn: one call, or a list of them, as JSON."""
    calls = decoded(value, where)
    return [_call(call, where) for call in (calls if isinstance(calls, list) else [calls])]


def _openai_calls(calls: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise BadRow(f"'tool_calls' of {where} is {kind(calls)}; accepted is a list")
    return [_call(call.get("function") if isinstance(call, dict) else call, where) for call in calls]


def _call(function: object, where: str) -> dict[str, Any]:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRow(f"{where} has a function call without a name; accepted is name and arguments")
    arguments = decoded(function.get("arguments", {}), f"arguments of {where}")
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
