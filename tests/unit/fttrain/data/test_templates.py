"""Named templates: what is trained on under each, what each needs of a tokenizer, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.preparation import trained
from tests.support.tokens import byte_tokenizer, template

from finetuned.v1 import training_pb2
from fttrain.data import templates
from fttrain.data.forms import Chat, Message
from fttrain.data.masks import Mask
from fttrain.data.rendering import Renderer
from fttrain.data.templates import TEMPLATES
from fttrain.data.tokens import Example, Tokens
from fttrain.failure import Refused

EOS = "<|endoftext|>"
SYSTEM: Message = {"role": "system", "content": "Be brief."}
TALK: list[Message] = [
    {"role": "user", "content": "How far is the moon?"},
    {"role": "assistant", "content": "384,400 km."},
    {"role": "user", "content": "And the sun?"},
    {"role": "assistant", "content": "150 million km."},
]
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {}}}]
CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": {"city": "Oslo"}}}],
}


def tokenizer_with(name: str) -> Any:
    """A tokenizer that has what the template needs, with the template on it."""
    tokenizer = byte_tokenizer(tokens=TEMPLATES[name].needs)
    templates.put_on(tokenizer, training_pb2.Data(template=name))
    return tokenizer


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_under_each_name_the_answers_are_trained_with_their_end_and_nothing_else(name: str) -> None:
    tokenizer, stop = tokenizer_with(name), TEMPLATES[name].stop or EOS
    row = Tokens(tokenizer, Renderer(tokenizer, training_pb2.Data()), Mask()).encode(Chat([SYSTEM, *TALK]))
    assert isinstance(row, Example)
    runs = trained(tokenizer, row.input_ids, row.labels)
    thought = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    assert [run.strip() for run in runs] in (
        [f"384,400 km.{space}{stop}", f"{thought}150 million km.{space}{stop}"] for space in ("", " ")
    )
    whole = tokenizer.decode(row.input_ids)
    assert all(message["content"] in whole for message in [SYSTEM, *TALK])
    assert tokenizer.eos_token == stop


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("cohere", "cohere"),
        ("gemma", "gemma"),
        ("gemma3", "gemma3"),
        ("llama3", "llama3"),
        ("qwen", "qwen2_5"),
        ("qwen3", "qwen3"),
        ("qwen3_nothink", "qwen3_instruct_2507"),
    ],
)
def test_a_named_template_renders_as_the_family_does(name: str, family: str) -> None:
    tokenizer = tokenizer_with(name)
    talks: list[list[Message]] = [TALK, [*TALK[:1], {**TALK[1], "content": "1\n2"}]]
    if name not in ("gemma",):
        talks.append([SYSTEM, *TALK])
    if name.startswith("qwen"):
        talks.append([SYSTEM, TALK[0], CALL, {"role": "tool", "content": "12:30"}, TALK[1], *TALK[2:]])
        talks.append([TALK[0], {**TALK[1], "reasoning_content": "Far."}])
    for talk in talks:
        tools: Any = TOOLS if any(message["role"] == "tool" for message in talk) else None
        for answer in (False, True):
            how: dict[str, Any] = {"tools": tools, "tokenize": False, "add_generation_prompt": answer}
            theirs = tokenizer.apply_chat_template(talk, chat_template=template(family), **how)
            # The byte tokenizer puts no begin-of-text token before a text.
            assert tokenizer.apply_chat_template(talk, **how) == theirs.removeprefix(EOS)


def test_the_begin_of_text_token_comes_from_the_tokenizer() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer(tokens=TEMPLATES["llama3"].needs)
    processor = TemplateProcessing(single=f"{EOS} $A", special_tokens=[(EOS, tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = processor
    templates.put_on(tokenizer, training_pb2.Data(template="llama3"))
    text = tokenizer.apply_chat_template(TALK[:2], tokenize=False)
    assert text.startswith(f"{EOS}<|start_header_id|>user")
    assert text == tokenizer.apply_chat_template(TALK[:2], tokenize=False, chat_template=template("llama3"))


def test_a_template_whose_tokens_the_tokenizer_lacks_is_refused() -> None:
    with pytest.raises(Refused, match=r"template: llama4 is made of tokens .* not have: <\|header_start\|>") as e:
        templates.put_on(byte_tokenizer(), training_pb2.Data(template="llama4"))
    assert "alpaca" in e.value.advice


def test_a_file_that_is_no_jinja_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    with pytest.raises(Refused, match=r"data.chat_template_path: mine.jinja is no Jinja template: line 2: "):
        templates.put_on(byte_tokenizer(), training_pb2.Data(chat_template_path=str(path)))


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"data.chat_template_path: .*gone.jinja cannot be read"):
        templates.text(training_pb2.Data(chat_template_path=str(tmp_path / "gone.jinja")))
