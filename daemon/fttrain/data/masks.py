"""Finds what the assistant says in a rendered conversation, so that the loss is computed on that and nothing else.

Chat templates do not tell. What does: the template itself, asked to render the turns before (with the prompt for the
assistant's answer) and the turns up to an answer. Where both are beginnings of the whole text, the answer lies between.
Templates that render an answer differently once another turn follows (they drop its reasoning, or end the whole text
with a token of its own) are asked again, with a mark on either side of the answer. The span runs from the first thing
the model itself has to write to the end of its turn, the end-of-turn token included. It must never guess: a span that
cannot be shown to be right is a BadRow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from fttrain.data.forms import Message
from fttrain.data.problems import BadRow

# Renders turns as text; with True the beginning of an answer follows them.
Render = Callable[[Sequence[Message], bool], str]
Span = tuple[int, int]

_PRIVATE_CHARACTERS = range(0xE000, 0xF900)
_END_OF_REASONING = "</think>"


def answer_spans(render: Render, messages: Sequence[Message], text: str) -> dict[int, Span]:
    """Characters [start, end) of each assistant turn in `text`, which is `render(messages, False)`, by its index."""
    return {
        index: _answer_span(render, messages, index, text)
        for index, message in enumerate(messages)
        if message["role"] == "assistant"
    }


def tokens_of(span: Span, offsets: Sequence[Span]) -> Span:
    """Tokens [start, end) that hold the characters of `span`: one over its start counts, one over its end does not."""
    start = next((i for i, (_, end) in enumerate(offsets) if end > span[0]), len(offsets))
    stop = next((i for i in range(start, len(offsets)) if offsets[i][1] > span[1]), len(offsets))
    return start, stop


def _answer_span(render: Render, messages: Sequence[Message], index: int, text: str) -> Span:
    before = render(messages[:index], True)
    through = text if index == len(messages) - 1 else render(messages[: index + 1], False)
    if text.startswith(before) and text.startswith(through) and len(before) < len(through):
        span = len(before), len(through)
    else:
        span = _marked_span(render, messages, index, text, before)
    _verify(messages[index], index, text[slice(*span)])
    return span


def _marked_span(render: Render, messages: Sequence[Message], index: int, text: str, before: str) -> Span:
    whole = _around(render, messages, index)
    alone = _around(render, messages[: index + 1], index)
    if whole is None or alone is None or "".join(whole) != text:
        raise BadRow(
            f"the chat template rewrites turn {index + 1} when others follow; the answer cannot be found in it"
        )
    begin, said, rest = whole
    start = len(before) if text.startswith(before) else len(begin)
    # What the template puts after an answer whether or not turns follow: the end of the turn.
    end_of_turn = _common_beginning(alone[2], rest)
    return start, len(begin) + len(said) + len(end_of_turn)


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
    """What a template must render of a turn: all but white space at its ends and reasoning, which many leave out."""
    content: str = message["content"]
    return content.rpartition(_END_OF_REASONING)[2].strip()


def _common_beginning(a: str, b: str) -> str:
    return "".join(x for x, _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _unused(text: str) -> tuple[str, str]:
    """Two characters that are not in the text and that no template treats as white space."""
    free = (char for char in map(chr, _PRIVATE_CHARACTERS) if char not in text)
    return next(free), next(free)
