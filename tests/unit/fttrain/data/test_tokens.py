"""The loss is on what the assistant says and on nothing else: shown by decoding the trained tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.models import smol_nano  # noqa: F401
from tests.support.preparation import trained
from tests.support.tokens import byte_tokenizer, template

from finetuned.v1 import training_pb2
from fttrain.data.forms import Chat, Labelled, Message, Pair, Plain
from fttrain.data.masks import Mask
from fttrain.data.problems import BadRow
from fttrain.data.rendering import Renderer
from fttrain.data.tokens import Example, IdAnswer, IdPair, Tokens, load_tokenizer
from fttrain.failure import Refused

ASSISTANT = training_pb2.TRAIN_ON_ASSISTANT
LAST = training_pb2.TRAIN_ON_LAST_ASSISTANT
ALL = training_pb2.TRAIN_ON_ALL
TALK: list[Message] = [
    {"role": "user", "content": "How far is the moon?"},
    {"role": "assistant", "content": "384,400 km."},
    {"role": "user", "content": "assistant"},
    {"role": "assistant", "content": "Yes?"},
]
CALL: list[Message] = [
    {"role": "user", "content": "What is the time in Oslo?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"city": "Oslo"}}}],
    },
    {"role": "tool", "content": "12:30"},
    {"role": "assistant", "content": "Half past twelve."},
]


def tokens_of(tokenizer: Any, train_on: Any = ASSISTANT) -> Tokens:
    """The tokenizer with its own template."""
    return Tokens(tokenizer, Renderer(tokenizer, training_pb2.Data()), Mask(train_on))


def marked(turn: int, wish: bool) -> list[Message]:
    """TALK, with one turn that says whether it is to be trained on."""
    return [{**message, "train": wish} if index == turn else message for index, message in enumerate(TALK)]


def said(tokenizer: Any, chat: Chat, train_on: Any = ASSISTANT) -> list[str]:
    """What is trained on of a conversation, as text."""
    example = tokens_of(tokenizer, train_on).encode(chat)
    assert isinstance(example, Example)
    return trained(tokenizer, example.input_ids, example.labels)


@pytest.fixture(scope="module")
def nano(smol_nano: Path) -> Any:  # noqa: F811
    return load_tokenizer(smol_nano, allow_remote_code=False)


def test_every_turn_of_the_assistant_is_trained_on_with_its_end(nano: Any) -> None:
    assert said(nano, Chat(TALK)) == ["384,400 km.<|im_end|>\n", "Yes?<|im_end|>\n"]


def test_the_last_turn_alone_or_everything(nano: Any) -> None:
    assert said(nano, Chat(TALK), LAST) == ["Yes?<|im_end|>\n"]
    assert said(nano, Chat(TALK), ALL) == [nano.apply_chat_template(TALK, tokenize=False)]


def test_a_muted_turn_is_not_trained_on(nano: Any) -> None:
    assert said(nano, Chat(marked(1, False))) == ["Yes?<|im_end|>\n"]
    assert said(nano, Chat(marked(3, False)), LAST) == ["384,400 km.<|im_end|>\n"]
    assert "384,400 km." not in "".join(said(nano, Chat(marked(1, False)), ALL))


def test_a_turn_that_asks_for_it_is_trained_on_whoever_speaks(nano: Any) -> None:
    assert said(nano, Chat(marked(1, True)), LAST) == ["384,400 km.<|im_end|>\n", "Yes?<|im_end|>\n"]
    assert said(nano, Chat(marked(2, True))) == [
        "384,400 km.<|im_end|>\n",
        "assistant<|im_end|>\n",
        "Yes?<|im_end|>\n",
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("llama3", "384,400 km.<|eot_id|>", "Yes?<|eot_id|>"),
        ("llama3_1", "384,400 km.<|eot_id|>", "Yes?<|eot_id|>"),
        ("qwen2_5", "384,400 km.<|im_end|>\n", "Yes?<|im_end|>\n"),
        ("gemma", "384,400 km.<end_of_turn>\n", "Yes?<end_of_turn>\n"),
        ("gemma3", "384,400 km.<end_of_turn>\n", "Yes?<end_of_turn>\n"),
        # Ends the whole text, but no turn before the last, with a token of its own.
        ("phi3", "384,400 km.<|end|>\n", "Yes?<|end|>\n<|endoftext|>"),
        # Drops the reasoning of every turn but the last.
        ("qwen3", "384,400 km.<|im_end|>\n", "<think>\n\n</think>\n\nYes?<|im_end|>\n"),
        # Asks for an answer with words that no answer is rendered with.
        ("deepseek_r1_distill", "384,400 km.<｜end▁of▁sentence｜>", "Yes?<｜end▁of▁sentence｜>"),
        # Have marks of their own.
        ("llama3_training", "384,400 km.<|eot_id|>", "Yes?<|eot_id|>"),
        ("gemma_training", "384,400 km.<end_of_turn>\n", "Yes?<end_of_turn>\n"),
        ("phi3_training", "384,400 km.<|end|>\n", "Yes?<|end|>\n<|endoftext|>"),
    ],
)
def test_the_turns_are_found_in_the_templates_of_real_models(name: str, first: str, last: str) -> None:
    assert said(byte_tokenizer(template(name)), Chat(TALK)) == [first, last]


def test_reasoning_is_trained_on_where_the_template_keeps_it() -> None:
    answers = ["<think>\nFar.\n</think>\n\n384,400 km.", "<think>\nHm.\n</think>\n\nYes?"]
    talk = [TALK[0], {**TALK[1], "content": answers[0]}, TALK[2], {**TALK[3], "content": answers[1]}]
    assert said(byte_tokenizer(template("qwen3")), Chat(talk)) == [
        "384,400 km.<|im_end|>\n",
        f"{answers[1]}<|im_end|>\n",
    ]


def test_a_function_call_is_trained_on_where_the_template_renders_it(nano: Any) -> None:
    call, answer = said(byte_tokenizer(template("qwen2_5")), Chat(CALL))
    assert call.endswith('<tool_call>\n{"name": "clock", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n')
    assert answer == "Half past twelve.<|im_end|>\n"
    with pytest.raises(BadRow, match="function calls, and the chat template does not render them"):
        said(nano, Chat(CALL))


def test_a_row_that_the_template_refuses_is_left_out_with_its_words() -> None:
    talk = [{"role": "system", "content": "Be brief."}, *TALK]
    with pytest.raises(BadRow, match="the chat template refuses the row: System role not supported"):
        said(byte_tokenizer(template("gemma")), Chat(talk))


@pytest.mark.parametrize(
    "rewriting",
    [
        # Cuts what the assistant said.
        "{% for m in messages %}{{ m.content[:3] }}<|im_end|>{% endfor %}",
        # Says of every answer how many turns the whole has.
        "{% for m in messages %}{{ messages|length }}{{ m.content|upper }}<|im_end|>{% endfor %}",
    ],
)
def test_answers_that_a_template_changes_are_not_guessed(rewriting: str) -> None:
    with pytest.raises(BadRow, match=r"the chat template (rewrites|leaves out)"):
        said(byte_tokenizer(rewriting), Chat(TALK))


TEXT = st.text(
    # The small tokenizer lacks some bytes of what is left out here.
    st.characters(max_codepoint=0xFFFF, exclude_categories=["C"], include_characters="\n\t", exclude_characters="<>"),
    min_size=1,
    max_size=30,
).filter(lambda text: bool(text.strip()))


@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), system=st.none() | TEXT)
@pytest.mark.parametrize("name", [None, "llama3", "phi3", "qwen3"])
def test_whatever_is_said_each_answer_is_one_trained_run(
    name: str | None, nano: Any, turns: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer = byte_tokenizer(template(name)) if name else nano
    talk: list[Message] = [{"role": "system", "content": system}] if system else []
    for question, answer in turns:
        talk += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    runs = said(tokenizer, Chat(talk))
    assert len(runs) == len(turns)
    for run, (_, answer) in zip(runs, turns, strict=True):
        text, end, _ = run.partition("<|")
        assert text.removeprefix("<think>\n\n</think>\n\n").strip() == answer.strip()
        assert end


def test_of_prompt_and_completion_the_completion_is_trained_on_with_the_end_of_text(nano: Any) -> None:
    row = Plain("The sky is", " blue")
    example = tokens_of(nano).encode(row)
    assert isinstance(example, Example)
    assert trained(nano, example.input_ids, example.labels) == [" blue<|im_end|>"]
    everything = tokens_of(nano, ALL).encode(row)
    assert isinstance(everything, Example)
    assert trained(nano, everything.input_ids, everything.labels) == ["The sky is blue<|im_end|>"]


def test_text_is_trained_on_whole_and_ended_once(nano: Any) -> None:
    tokens = tokens_of(nano)
    example = tokens.encode(Plain("", "Once upon a time"))
    assert isinstance(example, Example)
    assert example.labels == example.input_ids
    assert nano.decode(example.input_ids) == "Once upon a time<|im_end|>"
    assert tokens.encode(Plain("", "Once upon a time<|im_end|>")) == example


def test_a_pair_shares_its_prompt(nano: Any) -> None:
    tokens = tokens_of(nano)
    turns = tokens.encode(Pair(TALK[:1], [TALK[1]], [{"role": "assistant", "content": "384,000 km."}]))
    assert isinstance(turns, IdPair)
    assert nano.decode(turns.prompt_ids).endswith("How far is the moon?<|im_end|>\n<|im_start|>assistant\n")
    assert nano.decode(turns.chosen_ids) == "384,400 km.<|im_end|>\n"
    plain = tokens.encode(Pair("The sky is", " blue", " green"))
    assert isinstance(plain, IdPair)
    assert [nano.decode(ids) for ids in (plain.prompt_ids, plain.chosen_ids, plain.rejected_ids)] == [
        "The sky is",
        " blue<|im_end|>",
        " green<|im_end|>",
    ]


def test_an_answer_is_parted_from_its_prompt_as_one_of_a_pair(nano: Any) -> None:
    tokens = tokens_of(nano)
    pair = tokens.encode(Pair(TALK[:1], [TALK[1]], [{"role": "assistant", "content": "384,000 km."}]))
    assert isinstance(pair, IdPair)
    answer = tokens.encode(Labelled(TALK[:1], [TALK[1]], label=False))
    whole = pair.whole()
    assert isinstance(answer, IdAnswer)
    assert answer.prompt_ids + answer.completion_ids == whole.chosen_ids
    assert nano.decode(answer.completion_ids) == "384,400 km.<|im_end|>\n"
    assert answer.label is False
    plain = tokens.encode(Labelled("The sky is", " blue", label=True))
    assert isinstance(plain, IdAnswer)
    assert [nano.decode(ids) for ids in (plain.prompt_ids, plain.completion_ids)] == ["The sky is", " blue<|im_end|>"]


def test_without_a_chat_template_conversations_are_refused_with_what_to_do() -> None:
    tokens = tokens_of(byte_tokenizer())
    with pytest.raises(
        Refused, match=r"data\.train\[0\]: a\.jsonl holds conversations, .* no chat template"
    ) as refused:
        tokens.need_template(Chat(TALK), "data.train[0]: a.jsonl")
    assert "data.chat_template_path" in refused.value.advice
    tokens.need_template(Plain("", "a"), "data.train[0]: a.txt")
    tokens_of(byte_tokenizer(template("llama3"))).need_template(Chat(TALK), "data.train[0]: a.jsonl")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "vocab_size": 8}')
    with pytest.raises(Refused, match=r"the tokenizer of the model .* (cannot be loaded|has no tokenizer)"):
        load_tokenizer(tmp_path, allow_remote_code=False)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(Refused, match=r"the tokenizer of the model .* cannot be loaded"):
        load_tokenizer(tmp_path, allow_remote_code=False)
