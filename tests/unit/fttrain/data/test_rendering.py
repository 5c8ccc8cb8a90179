"""Conversations as a spec wants them: system prompt, thinking, functions, masks; and that nothing said is lost."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.preparation import trained
from tests.support.tokens import byte_tokenizer, template

from finetuned.v1 import training_pb2
from fttrain.data.forms import Chat, Message, Pair, Plain, Tools
from fttrain.data.masks import Mask
from fttrain.data.problems import BadRow
from fttrain.data.rendering import Renderer
from fttrain.data.tokens import Example, IdPair, Tokens
from fttrain.data.turns import chat, conversation
from fttrain.failure import Refused

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TALK: list[Message] = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "1", "reasoning_content": "First."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "<think>\nSecond.\n</think>\n\n2"},
]
TOOLS: Tools = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]


def tokens(source: str, mask: Mask | None = None, **data: Any) -> Tokens:
    tokenizer = byte_tokenizer(source)
    return Tokens(tokenizer, Renderer(tokenizer, training_pb2.Data(**data)), mask or Mask())


def runs(source: str, talk: list[Message], mask: Mask | None = None, **data: Any) -> list[str]:
    """What is trained on, as text."""
    row = tokens(source, mask, **data).encode(Chat(talk))
    assert isinstance(row, Example)
    return trained(byte_tokenizer(), row.input_ids, row.labels)


def test_a_system_prompt_is_given_to_conversations_that_bring_none() -> None:
    renderer = Renderer(byte_tokenizer(CHATML), training_pb2.Data(default_system="Be brief."))
    assert renderer.text(renderer.written(TALK[:1]), None).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    own: list[Message] = [{"role": "system", "content": "Be long."}, TALK[0]]
    assert "brief" not in renderer.text(renderer.written(own), None)


def test_a_template_that_drops_the_system_turn_is_told() -> None:
    drops = CHATML.replace("{{ m.content }}", "{{ m.content if m.role != 'system' }}")
    with pytest.raises(BadRow, match="the chat template leaves out what the system says in turn 1"):
        tokens(drops).encode(Chat([{"role": "system", "content": "Be brief."}, *TALK]))
    pair = Pair([{"role": "system", "content": "Be brief."}, TALK[0]], [TALK[1]], [TALK[3]])
    with pytest.raises(BadRow, match="the chat template leaves out what the system says in turn 1"):
        tokens(drops, Mask(training_pb2.TRAIN_ON_ALL)).encode(pair)


def test_functions_that_a_template_does_not_show_are_told() -> None:
    with pytest.raises(BadRow, match="the row declares functions, and the chat template does not render them"):
        tokens(CHATML).encode(Chat(TALK, TOOLS))
    tokens(template("qwen2_5")).encode(Chat(TALK, TOOLS))


def test_thinking_stands_in_the_text_where_the_template_knows_no_field_for_it() -> None:
    assert runs(CHATML, TALK) == [
        "<think>\nFirst.\n</think>\n\n1<|im_end|>\n",
        "<think>\nSecond.\n</think>\n\n2<|im_end|>\n",
    ]


@pytest.mark.parametrize(
    ("which", "first", "second"),
    [
        (training_pb2.THINKING_LAST, "1", "<think>\nSecond.\n</think>\n\n2"),
        (training_pb2.THINKING_DROP, "1", "2"),
    ],
)
def test_thinking_is_kept_in_the_turns_that_are_to_keep_it(which: Any, first: str, second: str) -> None:
    assert runs(CHATML, TALK, thinking=which) == [f"{first}<|im_end|>\n", f"{second}<|im_end|>\n"]


def test_a_template_that_leaves_thinking_out_is_told_as_a_remark_or_as_a_reason() -> None:
    qwen = tokens(template("qwen3"))
    row = qwen.encode(Chat(TALK))
    assert isinstance(row, Example)
    assert trained(byte_tokenizer(), row.input_ids, row.labels)[0] == "1<|im_end|>\n"
    assert any("leaves out what the assistant thinks" in remark and "(1 row)" in remark for remark in qwen.remarks)
    assert any("renders an answer in another way when turns follow it" in remark for remark in qwen.remarks)
    with pytest.raises(BadRow, match="leaves out what the assistant thinks in turn 2; accepted is data"):
        tokens(template("qwen3"), thinking=training_pb2.THINKING_KEEP).encode(Chat(TALK))
    # Templates that can keep it are asked to.
    assert "First." in runs(template("qwen3_6"), TALK, thinking=training_pb2.THINKING_KEEP)[0]


def test_a_stable_template_has_no_remarks() -> None:
    stable = tokens(CHATML)
    stable.encode(Chat(TALK))
    assert stable.remarks == []


def test_without_thinking_the_empty_block_is_asked_and_not_trained() -> None:
    plain: list[Message] = [TALK[2], {"role": "assistant", "content": "2"}]
    assert runs(template("qwen3"), plain) == ["<think>\n\n</think>\n\n2<|im_end|>\n"]
    assert runs(template("qwen3"), plain, enable_thinking=True) == ["<think>\n\n</think>\n\n2<|im_end|>\n"]
    assert runs(template("qwen3"), plain, enable_thinking=False) == ["2<|im_end|>\n"]
    with pytest.raises(Refused, match=r"data.enable_thinking is set, and the chat template does not ask for it"):
        tokens(CHATML, enable_thinking=False)


def test_the_loss_can_leave_thinking_out() -> None:
    assert runs(CHATML, TALK, Mask(thinking=False)) == ["1<|im_end|>\n", "2<|im_end|>\n"]
    asked: list[Message] = [
        {"role": "user", "content": "What is </think>?"},
        {"role": "assistant", "content": "A tag."},
    ]
    everybody = Mask(roles=frozenset({"user", "assistant"}), thinking=False)
    assert runs(CHATML, asked, everybody) == ["What is </think>?<|im_end|>\n", "A tag.<|im_end|>\n"]


def test_any_role_can_be_trained_on() -> None:
    spec = training_pb2.TrainingSpec()
    spec.sft.roles.extend([training_pb2.ROLE_USER, training_pb2.ROLE_SYSTEM])
    talk: list[Message] = [{"role": "system", "content": "Be brief."}, *TALK]
    assert runs(CHATML, talk, Mask.of(spec)) == ["Be brief.<|im_end|>\n", "One?<|im_end|>\n", "Two?<|im_end|>\n"]
    tool: list[Message] = [
        TALK[0],
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]},
        {"role": "tool", "content": "12:30"},
        {"role": "assistant", "content": "Half past."},
    ]
    found = runs(template("qwen2_5"), tool, Mask(roles=frozenset({"tool"})))
    assert found == ["12:30\n</tool_response><|im_end|>\n"]


def test_of_prompt_and_completion_the_prompt_is_the_users() -> None:
    row = tokens(CHATML, Mask(roles=frozenset({"user"}))).encode(Plain("One?", " 1"))
    assert isinstance(row, Example)
    assert trained(byte_tokenizer(), row.input_ids, row.labels) == ["One?"]


def test_a_turn_may_say_that_it_is_trained_on_in_every_common_spelling() -> None:
    turns = [
        {"from": "human", "value": "One?", "loss": True},
        {"from": "gpt", "value": "1", "train": False},
        {"from": "human", "value": "Two?"},
        {"from": "gpt", "value": "2", "weight": 1},
        {"from": "human", "value": "Three?"},
        {"from": "gpt", "value": "3", "weight": 0},
    ]
    assert runs(CHATML, chat(conversation(turns, "conversations")).messages) == ["One?<|im_end|>\n", "2<|im_end|>\n"]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (
            {"role": "assistant", "content": "1", "weight": 0.5},
            "'weight' of turn 2 of 'messages' is 0.5; accepted is 0 or 1",
        ),
        (
            {"role": "assistant", "content": "1", "train": "no"},
            "'train' of turn 2 of 'messages' is a string; accepted is true",
        ),
        ({"role": "assistant", "content": "1", "reasoning": 3}, "what is thought in turn 2 of 'messages' is a number"),
        ({"role": "narrator", "content": "1"}, "turn 2 of 'messages' has the unknown role 'narrator'"),
    ],
)
def test_a_bad_turn_is_told(turn: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRow) as bad:
        conversation([{"role": "user", "content": "One?"}, turn], "messages")
    assert str(bad.value).startswith(reason)


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("[{", "column 'tools' is a string that is not JSON"),
        ({"name": "clock"}, "column 'tools' is an object; accepted is a list of function declarations"),
        ([{"function": {"parameters": {}}}], "function 1 in column 'tools' has no name"),
    ],
)
def test_functions_that_are_none_are_told(tools: object, reason: str) -> None:
    with pytest.raises(BadRow) as bad:
        chat(TALK, tools)
    assert str(bad.value).startswith(reason)


def test_of_a_pair_both_answers_have_the_same_prompt_with_the_system() -> None:
    row = tokens(CHATML, Mask(training_pb2.TRAIN_ON_ALL), default_system="Be brief.").encode(
        Pair([TALK[0]], [{"role": "assistant", "content": "1"}], [{"role": "assistant", "content": "7"}])
    )
    assert isinstance(row, IdPair)
    text = byte_tokenizer().decode(row.prompt_ids)
    assert text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n"
