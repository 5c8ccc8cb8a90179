"""What the assistant thinks before it answers: found in a turn, kept or left out, and given as a template takes it.

Rows have it as `reasoning_content` of a turn or as a block <think>…</think> that its text begins with. It must never
change what is said after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetuned.v1 import training_pb2
from fttrain.data.forms import Message

END = "</think>"
_BLOCK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
# The names of a turn's field by which templates ask for it.
_FIELDS = {
    "reasoning_content": re.compile(r"\breasoning_content\b"),
    "thinking": re.compile(r"""\.thinking\b|\[['"]thinking['"]\]"""),
}


def parted(message: Message) -> tuple[str | None, str]:
    """What a turn thinks (None: nothing is said of it), and what it says then."""
    content: str = message["content"]
    if "reasoning_content" in message:
        return message["reasoning_content"], content
    block = _BLOCK.match(content)
    return (block[1].strip(), content[block.end() :]) if block else (None, content)


def kept(messages: Sequence[Message], which: training_pb2.Thinking.ValueType) -> list[Message]:
    """The turns without the thinking that is not to be kept."""
    if which not in (training_pb2.THINKING_LAST, training_pb2.THINKING_DROP):
        return list(messages)
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    last = users[-1] if users and which == training_pb2.THINKING_LAST else len(messages)
    return [_without(message) if index < last else message for index, message in enumerate(messages)]


def as_asked(message: Message, template: str) -> Message:
    """The turn as the template takes its thinking: in a field that it asks for, else before what is said."""
    thought, said = parted(message)
    if message["role"] != "assistant" or thought is None:
        return message
    rest = {key: value for key, value in message.items() if key != "reasoning_content"}
    if field := next((name for name, asked in _FIELDS.items() if asked.search(template)), None):
        return {**rest, "content": said, field: thought}
    return {**rest, "content": f"<think>\n{thought}\n{END}\n\n{said}"} if "reasoning_content" in message else message


def _without(message: Message) -> Message:
    if message["role"] != "assistant":
        return message
    rest = {key: value for key, value in message.items() if key != "reasoning_content"}
    return {**rest, "content": parted(message)[1]}
