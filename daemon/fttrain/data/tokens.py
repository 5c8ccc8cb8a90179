"""Turns rows into token ids and labels with the model's own tokenizer and chat template.

Chats are rendered by the template and the loss is put on the assistant's turns; plain text gets the end-of-text token;
of a pair, the prompt is what both conversations share. Ids are those TRL would make of the same rows. Many rows go
through the tokenizer at once: a row is a generator that yields its texts and is sent their encodings. It must never
import torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetuned.v1 import event_pb2
from fttrain.data.asking import Asking
from fttrain.data.forms import Chat, Form, Labelled, Message, Pair, Plain, Prompt, Tools
from fttrain.data.masks import ALL, Mask, Span, tokens_of, turn_spans, without_thinking
from fttrain.data.problems import BadRow, counted, refused
from fttrain.data.rendering import Renderer
from fttrain.failure import Refused

NOT_TRAINED = -100
_REWRITTEN = "the chat template renders an answer in another way when turns follow it than when it is the last"


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: token ids, and of equal length the labels (-100 where the loss is not computed)."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class IdPair:
    """A preference pair: the shared prompt, and both answers with their ends of turn."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    def whole(self) -> WholePair:
        """The same as two conversations."""
        return WholePair(self.prompt_ids + self.chosen_ids, self.prompt_ids + self.rejected_ids)


@dataclass(frozen=True, slots=True)
class WholePair:
    """A preference pair that is judged as a whole: the prompt stands in both."""

    chosen_ids: list[int]
    rejected_ids: list[int]


@dataclass(frozen=True, slots=True)
class IdAnswer:
    """An answer with its end of turn, and whether it is a good one."""

    prompt_ids: list[int]
    completion_ids: list[int]
    label: bool


@dataclass(frozen=True, slots=True)
class IdPrompt:
    """A prompt, the reference answer (empty: none), and for how many tokens of an answer there must be room."""

    prompt: list[int]
    answer: str
    room: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text to encode, and whether the tokenizer adds its special tokens to it."""

    text: str
    special: bool


# The ids of a text, and the characters [start, end) that each stands for.
Encoding = tuple[list[int], list[tuple[int, int]]]
Encoded = Example | IdPair | IdAnswer | IdPrompt
Row = Generator[list[Text], list[Encoding], Encoded]


class Tokens:
    """A tokenizer, how conversations are rendered with it, and which of their turns are trained on.

    With `asking`, rows become prompts.
    """

    def __init__(self, tokenizer: Any, renderer: Renderer, mask: Mask, asking: Asking | None = None) -> None:
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._mask = mask
        self._asking = asking

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the rows encoded so far, with the number of rows that it is about."""
        return [f"{text} ({counted(rows)})" for text, rows in self._renderer.remarks.items()]

    def forget_remarks(self) -> Counter[str]:
        """What was remarked so far; from here on there are new remarks alone."""
        remarks = self._renderer.remarks.copy()
        self._renderer.remarks.clear()
        return remarks

    def remark(self, more: Counter[str]) -> None:
        """Adds what was remarked on elsewhere, with the number of rows."""
        self._renderer.remarks.update(more)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, every token of it."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def need_template(self, form: Form, where: str) -> None:
        """Raises Refused, naming the source, when the row is a conversation and there is no template to render it."""
        has_turns = isinstance(form, Chat) or (
            isinstance(form, Pair | Labelled | Prompt) and isinstance(form.prompt, list)
        )
        if has_turns and not self._renderer.ready:
            raise refused(
                f"{where} holds conversations, and the model's tokenizer has no chat template to render them with",
                "set data.template or data.chat_template_path, use the model's instruct version, "
                "or give prompt_completion or text rows",
            )

    def encode(self, form: Form) -> Encoded:
        """A row as ids. Raises BadRow when the template cannot render it or its answers cannot be found."""
        [encoded] = self.encode_all([form])
        if isinstance(encoded, BadRow):
            raise encoded
        return encoded

    def encode_all(self, forms: Sequence[Form]) -> list[Encoded | BadRow]:
        """The same of many rows, in order: the tokenizer encodes their texts together, on as many threads as it may."""
        rows = [self._row(form) for form in forms]
        asked = [_outcome(partial(next, row)) for row in rows]
        texts = [text for each in asked if isinstance(each, list) for text in each]
        encodings = iter(self._encodings(texts))
        return [
            _outcome(partial(row.send, [next(encodings) for _ in each])) if isinstance(each, list) else each
            for row, each in zip(rows, asked, strict=True)
        ]

    def _row(self, form: Form) -> Row:
        if self._asking:
            return self._prompt(self._asking, form)
        if isinstance(form, Pair):
            return self._pair(form)
        if isinstance(form, Labelled):
            return self._labelled(form)
        if isinstance(form, Prompt):
            raise BadRow("the row is a prompt; accepted is one with an answer to train on")
        return self._chat(form) if isinstance(form, Chat) else self._plain(form)

    def _prompt(self, asking: Asking, form: Form) -> Row:
        row = asking.prompt(form)
        if isinstance(row.prompt, str):
            asked = Text(row.prompt, special=True)
        else:
            asked = Text(self._renderer.text(self._renderer.written(row.prompt), row.tools, answer=True), special=False)
        [(ids, _)] = yield [asked]
        return IdPrompt(ids, row.answer, asking.room)

    def _plain(self, row: Plain) -> Row:
        [(ids, offsets)] = yield [Text(self._ended(row.prompt + row.completion), special=True)]
        if self._mask.train_on == ALL or not row.prompt:
            return _labelled(ids, [(0, len(ids))])
        start = tokens_of((len(row.prompt), len(row.prompt) + len(row.completion)), offsets)[0]
        spans = {"user": (0, start), "assistant": (start, len(ids))}
        return _labelled(ids, [span for role, span in spans.items() if role in self._mask.roles])

    def _chat(self, row: Chat) -> Row:
        messages = self._renderer.written(row.messages)
        text = self._renderer.whole(messages, row.tools)
        if self._mask.train_on == ALL:
            return (yield from self._everything(messages, row.tools, text))
        turns = self._mask.chosen(messages)
        answers = all(messages[turn]["role"] == "assistant" for turn in turns)
        if answers and self._mask.thinking and self._renderer.has_marks(row.tools):
            ids, spans = self._marked(messages, row.tools)
            return _labelled(ids, [spans[turn] for turn in turns])
        found = self._spans(messages, row.tools, text, turns)
        for turn, span in found.items():
            if not self._mask.thinking and messages[turn]["role"] == "assistant":
                found[turn] = without_thinking(span, text)
        [(ids, offsets)] = yield [Text(text, special=False)]
        return _labelled(ids, [tokens_of(found[turn], offsets) for turn in turns])

    def _everything(self, messages: list[Message], tools: Tools | None, text: str) -> Row:
        """All tokens but those of turns that the row takes out."""
        muted = [turn for turn, message in enumerate(messages) if message.get("train") is False]
        spans = self._spans(messages, tools, text, muted)
        [(ids, offsets)] = yield [Text(text, special=False)]
        left_out = {token for span in spans.values() for token in range(*tokens_of(span, offsets))}
        return Example(ids, [NOT_TRAINED if i in left_out else token for i, token in enumerate(ids)])

    def _spans(self, messages: list[Message], tools: Tools | None, text: str, turns: list[int]) -> dict[int, Span]:
        """Where the turns are in the text, found by asking the template."""

        def render(some: Sequence[Message], answer: bool) -> str:
            return self._renderer.text(some, tools, answer=answer)

        found = turn_spans(render, messages, text, turns)
        if not all(each.stable for each in found.values()):
            self._renderer.remarks[_REWRITTEN] += 1
        return {turn: each.span for turn, each in found.items()}

    def _marked(self, messages: list[Message], tools: Tools | None) -> tuple[list[int], dict[int, Span]]:
        """Ids, and the tokens of each answer, by the template's own {% generation %} marks."""
        encoding = self._renderer.apply(messages, tools, return_dict=True, return_assistant_tokens_mask=True)
        spans = _runs(encoding["assistant_masks"])
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if len(spans) != len(turns):
            raise BadRow(f"the chat template marks {len(spans)} answers in a row with {len(turns)}")
        return list(encoding["input_ids"]), dict(zip(turns, spans, strict=True))

    def _labelled(self, row: Labelled) -> Row:
        (prompt, _), (whole, _) = yield self._prompt_and_answers(row.prompt, [row.completion], row.tools)
        shared = _common(prompt, whole)
        return IdAnswer(prompt[:shared], whole[shared:], row.label)

    def _pair(self, row: Pair) -> Row:
        texts = self._prompt_and_answers(row.prompt, [row.chosen, row.rejected], row.tools)
        (prompt, _), (chosen, _), (rejected, _) = yield texts
        # Where the three part, which is not always the prompt's end: a token can span it.
        shared = min(_common(prompt, chosen), _common(prompt, rejected))
        return IdPair(prompt[:shared], chosen[shared:], rejected[shared:])

    def _prompt_and_answers(
        self, prompt: list[Message] | str, answers: Sequence[list[Message] | str], tools: Tools | None
    ) -> list[Text]:
        """The prompt, and it together with each answer."""
        if isinstance(prompt, str):
            texts = [prompt, *(self._ended(f"{prompt}{answer}") for answer in answers)]
            return [Text(text, special=True) for text in texts]
        whole = [self._renderer.written([*prompt, *answer]) for answer in answers if isinstance(answer, list)]
        asked = whole[0][: len(whole[0]) - len(answers[0])]
        texts = [
            self._renderer.text(asked, tools, answer=True),
            *(self._renderer.whole(messages, tools) for messages in whole),
        ]
        return [Text(text, special=False) for text in texts]

    def _ended(self, text: str) -> str:
        end: str = self._tokenizer.eos_token
        return text if text.endswith(end) else text + end

    def _encodings(self, texts: Sequence[Text]) -> list[Encoding]:
        """Of each text, in order."""
        found: dict[bool, Iterator[Encoding]] = {}
        for special in {text.special for text in texts}:
            same = [text.text for text in texts if text.special == special]
            batch = self._tokenizer(
                same,
                add_special_tokens=special,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
            found[special] = zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        return [next(found[text.special]) for text in texts]


def transformers_without_torch() -> None:
    """Loads transformers as if torch were not installed: a tokenizer does not need it, and it takes 2 of 3 seconds.

    For the rest of its life the process has no models; never call it in one that trains.
    """
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    # None makes it impossible to import. Not for longer than needed: `datasets` takes the mere name for torch itself.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("transformers.models.auto.tokenization_auto")
    finally:
        del sys.modules["torch"]


def load_tokenizer(folder: Path, *, allow_remote_code: bool) -> Any:
    """The tokenizer of a model folder. Raises Refused (MODEL_LOAD) when there is none that can do the work."""
    # Loaded here: over a second that bad input must not wait for.
    from transformers import AutoTokenizer

    where = f"the tokenizer of the model {folder.name}"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=allow_remote_code, local_files_only=True)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ImportError) as error:
        raise _no_tokenizer(f"{where} cannot be loaded: {error}") from error
    if not tokenizer.is_fast or not len(tokenizer):
        raise _no_tokenizer(f"{where} has no tokenizer.json or vocabulary it can be made from")
    if tokenizer.eos_token is None:
        raise _no_tokenizer(f"{where} names no eos_token, the end of a text")
    return tokenizer


def _no_tokenizer(message: str) -> Refused:
    advice = "put the model's tokenizer.json and tokenizer_config.json into its folder"
    return Refused(event_pb2.FAILURE_CLASS_MODEL_LOAD, message, advice)


def _outcome(go_on: Callable[[], list[Text]]) -> Any:
    """What comes when a row goes on: the texts it yields, the ids it returns, or the BadRow it raises."""
    try:
        return go_on()
    except StopIteration as done:
        return done.value
    except BadRow as bad:
        return bad


def _labelled(ids: list[int], spans: Sequence[tuple[int, int]]) -> Example:
    labels = [NOT_TRAINED] * len(ids)
    for start, stop in spans:
        labels[start:stop] = ids[start:stop]
    return Example(ids, labels)


def _runs(mask: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of ones as [start, stop)."""
    edges = [i for i, (a, b) in enumerate(zip([0, *mask], [*mask, 0], strict=True)) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _common(ids: Sequence[int], others: Sequence[int]) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others)))
