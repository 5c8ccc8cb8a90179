"""Renders conversations by the tokenizer's chat template, as a spec's Data wants it, and shows that nothing is lost.

What is said in a conversation must stand in the text that comes out: a template that drops the system turn, the
functions or an answer makes a BadRow. It must never change a conversation beyond what the spec says.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from finetuned.v1 import training_pb2
from fttrain.data import thinking
from fttrain.data.forms import Message, Tools
from fttrain.data.problems import BadRow, refused

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What a row says of a turn, and no template is told.
TRAIN = "train"
_THOUGHTS_LEFT_OUT = "the chat template leaves out what the assistant thinks in turns that others follow"


class Renderer:
    """A tokenizer's chat template, with what the spec adds to conversations.

    `remarks` counts, by their texts, the rows of which a person should know something.
    """

    def __init__(self, tokenizer: Any, data: training_pb2.Data) -> None:
        self._tokenizer = tokenizer
        self._system = data.default_system
        self._thinking = data.thinking
        self._told: dict[str, bool] = {}
        if data.HasField("enable_thinking"):
            self._told["enable_thinking"] = data.enable_thinking
        if data.thinking == training_pb2.THINKING_KEEP:
            self._told["preserve_thinking"] = True
        self.remarks: Counter[str] = Counter()
        self._check()

    @property
    def ready(self) -> bool:
        """Whether there is a template."""
        return bool(self._tokenizer.chat_template)

    def written(self, messages: Sequence[Message]) -> list[Message]:
        """The turns as the spec wants them: with its system prompt, and with the thinking that is kept."""
        messages = thinking.kept(messages, self._thinking)
        if self._system and messages[0]["role"] != "system":
            return [{"role": "system", "content": self._system}, *messages]
        return messages

    def text(self, messages: Sequence[Message], tools: Tools | None, *, answer: bool = False) -> str:
        """Turns as `written` gives them, as text; with `answer` the beginning of an answer follows. Raises BadRow."""
        rendered: str = self.apply(messages, tools, tokenize=False, add_generation_prompt=answer)
        return rendered

    def whole(self, messages: Sequence[Message], tools: Tools | None) -> str:
        """The text of a whole conversation. Raises BadRow when it lacks anything that was said."""
        text = self.text(messages, tools)
        for number, message in enumerate(messages, 1):
            if not _stands(message, text):
                raise BadRow(f"the chat template leaves out what the {message['role']} says in turn {number}")
        for tool in tools or []:
            if tool["function"]["name"] not in text:
                raise BadRow("the row declares functions, and the chat template does not render them")
        self._check_thoughts(messages, text)
        return text

    def apply(self, messages: Sequence[Message], tools: Tools | None, **how: Any) -> Any:
        """What the tokenizer makes of the turns. Raises BadRow when the template refuses them."""
        source = self._source(tools)
        if any(message.get("tool_calls") for message in messages) and "tool_calls" not in source:
            raise BadRow("the row holds function calls, and the chat template does not render them")
        given = [thinking.as_asked(_public(message), source) for message in messages]
        try:
            return self._tokenizer.apply_chat_template(given, tools=tools, **self._told, **how)
        # A template is a program: raise_exception is jinja's TemplateError, the others are its slips over this row.
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BadRow(f"the chat template refuses the row: {error}") from error

    def has_marks(self, tools: Tools | None) -> bool:
        """Whether the template says by {% generation %} itself what the assistant says."""
        return _MARKS.search(self._source(tools)) is not None

    def _source(self, tools: Tools | None) -> str:
        source: str = self._tokenizer.get_chat_template(None, tools)
        return source

    def _check(self) -> None:
        sources = str(self._tokenizer.chat_template or "")
        if sources and "enable_thinking" in self._told and "enable_thinking" not in sources:
            raise refused(
                "data.enable_thinking is set, and the chat template does not ask for it",
                "leave it out, or set data.template to one that thinks, e.g. qwen3",
            )

    def _check_thoughts(self, messages: Sequence[Message], text: str) -> None:
        spoken = [(n, thinking.parted(m)[0]) for n, m in enumerate(messages, 1) if m["role"] == "assistant"]
        thoughts = [(number, thought.strip()) for number, thought in spoken if thought and thought.strip()]
        times = Counter(thought for _, thought in thoughts)
        left_out = next((number for number, thought in thoughts if text.count(thought) < times[thought]), None)
        if left_out is None:
            return
        if self._thinking == training_pb2.THINKING_KEEP:
            raise BadRow(
                f"the chat template leaves out what the assistant thinks in turn {left_out}; "
                "accepted is data.thinking last or template, or another template"
            )
        self.remarks[_THOUGHTS_LEFT_OUT] += 1


def _public(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != TRAIN}


def _stands(message: Message, text: str) -> bool:
    """Whether what a turn says is in the text, as it is or, as templates write a function's answer, as JSON."""
    said = thinking.parted(message)[1] if message["role"] == "assistant" else message["content"]
    said = said.strip()
    if said in text:
        return True
    quoted = (json.dumps(said, ensure_ascii=escaped)[1:-1] for escaped in (False, True))
    return message["role"] == "tool" and any(each in text for each in quoted)
