"""Turns rows into token ids and labels with the model's own tokenizer and chat template.

Chats are rendered by the template and the loss is put on the assistant's turns; plain text gets the end-of-text token;
of a pair, the prompt is what both conversations share. Ids are those TRL would make of the same rows. Many rows go
through the tokenizer at once: a row is a generator that yields its texts and is sent their encodings. It must never
import torch.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from finetuned.v1 import event_pb2, training_pb2
from fttrain.data.forms import Chat, Form, Labelled, Message, Pair, Plain, Tools
from fttrain.data.masks import answer_spans, tokens_of
from fttrain.data.problems import BadRow, refused
from fttrain.failure import Refused

NOT_TRAINED = -100
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


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
class Text:
    """A text to encode, and whether the tokenizer adds its special tokens to it."""

    text: str
    special: bool


# The ids of a text, and the characters [start, end) that each stands for.
Encoding = tuple[list[int], list[tuple[int, int]]]
Encoded = Example | IdPair | IdAnswer
Row = Generator[list[Text], list[Encoding], Encoded]


class Tokens:
    """A tokenizer with a chat template (None: the tokenizer's own) and the turns to train on."""

    def __init__(self, tokenizer: Any, template: str | None, train_on: training_pb2.TrainOn.ValueType) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._train_on = train_on

    def need_template(self, form: Form, where: str) -> None:
        """Raises Refused, naming the source, when the row is a conversation and there is no template to render it."""
        has_turns = isinstance(form, Chat) or (isinstance(form, Pair | Labelled) and isinstance(form.prompt, list))
        if has_turns and not (self._template or self._tokenizer.chat_template):
            raise refused(
                f"{where} holds conversations, and the model's tokenizer has no chat template to render them with",
                "set data.chat_template_path, use the model's instruct version, or give prompt_completion or text rows",
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
        if isinstance(form, Pair):
            return self._pair(form)
        if isinstance(form, Labelled):
            return self._labelled(form)
        return self._chat(form) if isinstance(form, Chat) else self._plain(form)

    def _plain(self, row: Plain) -> Row:
        [(ids, offsets)] = yield [Text(self._ended(row.prompt + row.completion), special=True)]
        everything = self._train_on == training_pb2.TRAIN_ON_ALL or not row.prompt
        start = 0 if everything else tokens_of((len(row.prompt), len(row.prompt) + len(row.completion)), offsets)[0]
        return _labelled(ids, [(start, len(ids))])

    def _chat(self, row: Chat) -> Row:
        everything = self._train_on == training_pb2.TRAIN_ON_ALL
        if everything and not row.muted:
            [(ids, _)] = yield [Text(self._render(row.messages, row.tools), special=False)]
            return _labelled(ids, [(0, len(ids))])
        ids, spans = self._marked(row) if self._has_marks(row.tools) else (yield from self._searched(row))
        if everything:
            muted = {token for turn in row.muted for token in range(*spans[turn])}
            return Example(ids, [NOT_TRAINED if i in muted else token for i, token in enumerate(ids)])
        turns = [turn for turn in sorted(spans) if turn not in row.muted]
        return _labelled(ids, [spans[turn] for turn in turns[self._first_of(turns) :]])

    def _first_of(self, turns: Sequence[int]) -> int:
        return max(0, len(turns) - 1) if self._train_on == training_pb2.TRAIN_ON_LAST_ASSISTANT else 0

    def _searched(
        self, row: Chat
    ) -> Generator[list[Text], list[Encoding], tuple[list[int], dict[int, tuple[int, int]]]]:
        """Ids, and the tokens of each assistant turn, found by asking the template."""

        def render(messages: Sequence[Message], answer: bool) -> str:
            return self._render(messages, row.tools, answer=answer)

        text = render(row.messages, False)
        spans = answer_spans(render, row.messages, text)
        [(ids, offsets)] = yield [Text(text, special=False)]
        return ids, {turn: tokens_of(span, offsets) for turn, span in spans.items()}

    def _marked(self, row: Chat) -> tuple[list[int], dict[int, tuple[int, int]]]:
        """The same by the template's own {% generation %} marks."""
        encoding = self._apply(row.messages, row.tools, return_dict=True, return_assistant_tokens_mask=True)
        spans = _runs(encoding["assistant_masks"])
        turns = [index for index, message in enumerate(row.messages) if message["role"] == "assistant"]
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
        whole = ([*prompt, *answer] for answer in answers if isinstance(answer, list))
        texts = [self._render(prompt, tools, answer=True), *(self._render(messages, tools) for messages in whole)]
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

    def _render(self, messages: Sequence[Message], tools: Tools | None, *, answer: bool = False) -> str:
        rendered: str = self._apply(messages, tools, tokenize=False, add_generation_prompt=answer)
        return rendered

    def _apply(self, messages: Sequence[Message], tools: Tools | None, **how: Any) -> Any:
        if any(message.get("tool_calls") for message in messages) and "tool_calls" not in self._source(tools):
            raise BadRow("the row holds function calls, and the chat template does not render them")
        try:
            return self._tokenizer.apply_chat_template(list(messages), tools=tools, chat_template=self._template, **how)
        # A template is a program: raise_exception is jinja's TemplateError, the others are its slips over this row.
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BadRow(f"the chat template refuses the row: {error}") from error

    def _source(self, tools: Tools | None) -> str:
        source: str = self._tokenizer.get_chat_template(self._template, tools)
        return source

    def _has_marks(self, tools: Tools | None) -> bool:
        return _MARKS.search(self._source(tools)) is not None


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
