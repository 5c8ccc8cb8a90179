"""Finds what each turn says in a rendered conversation, so that the loss is computed on the chosen turns and no others.

Chat templates do not tell. What does: the template itself, asked to render the turns before (with the prompt for the
assistant's answer) and the turns up to an answer. Where both are beginnings of the whole text, the answer lies between.
Templates that render an answer differently once another turn follows (they drop its thinking, or end the whole text
with a token of its own), and turns that nobody is asked for, are found by a mark on either side of what is said. The
span of an answer runs from the first thing the model itself has to write, that of another turn from what is said, to
the end of the turn, the end-of-turn token included. It must never guess: a span that cannot be shown to be right is a
BadRow.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

from finetuned.v1 import training_pb2
from fttrain.data import thinking
from fttrain.data.forms import Message
from fttrain.data.problems import BadRow

# Renders turns as text; with True the beginning of an answer follows them.
Render = Callable[[Sequence[Message], bool], str]
Span = tuple[int, int]

ALL = training_pb2.TRAIN_ON_ALL
_LAST = training_pb2.TRAIN_ON_LAST_ASSISTANT
_ASSISTANT = "assistant"
_PRIVATE_CHARACTERS = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True)
class Mask:
    """What the loss is computed on: the turns of `roles`, of which a row may take one out or put one in."""

    train_on: training_pb2.TrainOn.ValueType = training_pb2.TRAIN_ON_ASSISTANT
    roles: frozenset[str] = frozenset({_ASSISTANT})
    thinking: bool = True

    @classmethod
    def of(cls, spec: training_pb2.TrainingSpec) -> Mask:
        """The mask of a resolved spec; what is evaluated are answers, and other stages train on everything there is."""
        if spec.WhichOneof("stage") == "evaluate":
            return cls()
        if spec.WhichOneof("stage") != "sft":
            return cls(ALL)
        if not spec.sft.roles:
            return cls(
                spec.sft.train_on, thinking=spec.sft.train_on_thinking or not spec.sft.HasField("train_on_thinking")
            )
        roles = frozenset(training_pb2.Role.Name(role).removeprefix("ROLE_").lower() for role in spec.sft.roles)
        return cls(roles=roles, thinking=spec.sft.train_on_thinking)

    def chosen(self, messages: Sequence[Message]) -> list[int]:
        """Indices of the turns the loss is computed on, where it is not on everything."""
        wished = {index: message["train"] for index, message in enumerate(messages) if "train" in message}
        of_roles = [i for i, m in enumerate(messages) if m["role"] in self.roles and wished.get(i, True)]
        if self.train_on == _LAST:
            of_roles = of_roles[-1:]
        return sorted({*of_roles, *(index for index, wish in wished.items() if wish)})


@dataclass(frozen=True, slots=True)
class Found:
    """Where a turn is in a text, and whether a template renders it in the same way when no turn follows."""

    span: Span
    stable: bool


def turn_spans(render: Render, messages: Sequence[Message], text: str, turns: Collection[int]) -> dict[int, Found]:
    """Characters [start, end) of the turns with these indices in `text`, which is `render(messages, False)`."""
    return {index: _turn_span(render, messages, index, text) for index in turns}


def without_thinking(span: Span, text: str) -> Span:
    """The part of an answer's span that comes after its thinking."""
    start, end = span
    place = text.find(thinking.END, start, end)
    if place < 0:
        return span
    said = text[place + len(thinking.END) : end]
    return end - len(said.lstrip("\n")), end


def tokens_of(span: Span, offsets: Sequence[Span]) -> Span:
    """Tokens [start, end) that hold the characters of `span`: one over its start counts, one over its end does not."""
    start = next((i for i, (_, end) in enumerate(offsets) if end > span[0]), len(offsets))
    stop = next((i for i in range(start, len(offsets)) if offsets[i][1] > span[1]), len(offsets))
    return start, stop


def _turn_span(render: Render, messages: Sequence[Message], index: int, text: str) -> Found:
    if messages[index]["role"] != _ASSISTANT:
        return _marked(render, messages, index, text, None)
    before = render(messages[:index], True)
    through = text if index == len(messages) - 1 else render(messages[: index + 1], False)
    if text.startswith(before) and text.startswith(through) and len(before) < len(through):
        found = Found((len(before), len(through)), stable=True)
    else:
        found = _marked(render, messages, index, text, before)
    _verify(messages[index], index, text[slice(*found.span)])
    return found


def _marked(render: Render, messages: Sequence[Message], index: int, text: str, before: str | None) -> Found:
    """The turn as marks around what it says show it; what stands before an answer's span is asked for, if it can be."""
    whole = _around(render, messages, index)
    alone = _around(render, messages[: index + 1], index)
    if whole is None or alone is None or "".join(whole) != text:
        raise BadRow(f"the chat template rewrites turn {index + 1} when others follow; what it says cannot be found")
    begin, said, rest = whole
    start = len(before) if before is not None and text.startswith(before) else len(begin)
    # What the template puts after a turn whether or not turns follow: its end.
    end_of_turn = _common_beginning(alone[2], rest)
    return Found((start, len(begin) + len(said) + len(end_of_turn)), stable=alone[:2] == whole[:2])


def _around(render: Render, messages: Sequence[Message], index: int) -> tuple[str, str, str] | None:
    """The rendered text before, inside and after what the turn says; None where the template cuts it."""
    said = _said(messages[index])
    content = messages[index]["content"]
    if not said:
        return None
    place = content.rindex(said)
    first, last = _unused(str(messages))
    marked = content[:place] + first + said + last + content[place + len(said) :]
    text = render([*messages[:index], {**messages[index], "content": marked}, *messages[index + 1 :]], False)
    if text.count(first) != 1 or text.count(last) != 1 or text.index(last) < text.index(first):
        return None
    begin, _, rest = text.partition(first)
    inside, _, end = rest.partition(last)
    return begin, inside, end


def _verify(message: Message, index: int, found: str) -> None:
    missing = [_said(message)] if _said(message) not in found else []
    missing += [name for call in message.get("tool_calls", ()) if (name := call["function"]["name"]) not in found]
    if missing:
        raise BadRow(f"the chat template leaves out what the assistant says in turn {index + 1}")


def _said(message: Message) -> str:
    """What a template must render of a turn: all but white space at its ends and thinking, which many leave out."""
    return thinking.parted(message)[1].strip()


def _common_beginning(a: str, b: str) -> str:
    return "".join(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _unused(text: str) -> tuple[str, str]:
    """Two characters that are not in the text and that no template treats as white space."""
    free = (char for char in map(chr, _PRIVATE_CHARACTERS) if char not in text)
    return next(free), next(free)
