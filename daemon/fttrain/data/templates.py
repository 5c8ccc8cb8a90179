"""The chat template of a job: the tokenizer's own, a file, or one of the named ones in the folder `templates`.

A named template is a Jinja text without the tokenizer's begin-of-text token, the tokens it is made of, and the token
that ends an answer. It must never be put on a tokenizer that would cut one of its tokens into pieces: the model would
read and write something else than was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError

from finetuned.v1 import training_pb2
from fttrain.data.problems import listed, refused

_FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Named:
    """A named template: its file, the tokens it is made of, and what ends an answer (None: the tokenizer's eos)."""

    file: str
    stop: str | None = None
    tokens: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The Jinja text."""
        return (_FOLDER / f"{self.file}.jinja").read_text(encoding="utf-8")

    @property
    def needs(self) -> tuple[str, ...]:
        """Every token that the tokenizer has to have."""
        return (*self.tokens, *([self.stop] if self.stop else []))


_IM = ("<|im_end|>", ("<|im_start|>",))
_GEMMA = Named("gemma", "<end_of_turn>", ("<start_of_turn>",))
_PHI = ("<|end|>", ("<|system|>", "<|user|>", "<|assistant|>"))
_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>")
# Named as in LLaMA-Factory.
TEMPLATES: Mapping[str, Named] = {
    "alpaca": Named("alpaca"),
    "chatml": Named("chatml", *_IM),
    "cohere": Named(
        "cohere", "<|END_OF_TURN_TOKEN|>", ("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>")
    ),
    "deepseek": Named("deepseek"),
    "deepseek3": Named("deepseek3", None, _DEEPSEEK),
    "deepseekr1": Named("deepseekr1", None, _DEEPSEEK),
    "default": Named("default"),
    "empty": Named("empty"),
    "falcon": Named("falcon"),
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma3": _GEMMA,
    "granite3": Named("granite3", "<|end_of_text|>", ("<|start_of_role|>", "<|end_of_role|>")),
    "intern2": Named("chatml", *_IM),
    "llama2": Named("llama2"),
    "llama3": Named("llama3", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>")),
    "llama4": Named("llama4", "<|eot|>", ("<|header_start|>", "<|header_end|>")),
    "mistral": Named("mistral"),
    "mistral_small": Named("mistral_small", None, ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")),
    "openchat": Named("openchat", "<|end_of_turn|>"),
    "phi": Named("phi", *_PHI),
    "phi4": Named("phi4", "<|im_end|>", ("<|im_start|>", "<|im_sep|>")),
    "phi4_mini": Named("phi4_mini", *_PHI),
    "qwen": Named("qwen", *_IM),
    "qwen3": Named("qwen3", *_IM),
    "qwen3_nothink": Named("qwen3_nothink", *_IM),
    "smollm": Named("chatml", *_IM),
    "solar": Named("solar"),
    "vicuna": Named("vicuna"),
    "yi": Named("chatml", *_IM),
    "zephyr": Named("zephyr"),
}


def text(data: training_pb2.Data) -> str | None:
    """The Jinja text that replaces the tokenizer's own template; None: its own. Raises Refused."""
    if data.template:
        return TEMPLATES[data.template].text
    if not data.chat_template_path:
        return None
    try:
        return Path(data.chat_template_path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise refused(
            f"data.chat_template_path: {data.chat_template_path} cannot be read: {error}", "give a Jinja file in UTF-8"
        ) from error


def put_on(tokenizer: Any, data: training_pb2.Data) -> None:
    """Gives the tokenizer the spec's template, and with a named one the token that ends an answer. Raises Refused."""
    chosen = text(data)
    if chosen is not None:
        tokenizer.chat_template = chosen
    if data.template:
        named = TEMPLATES[data.template]
        _need_tokens(tokenizer, data.template, named)
        if _begins_texts(tokenizer):
            tokenizer.chat_template = "{{- bos_token }}\n" + named.text
        if named.stop:
            tokenizer.eos_token = named.stop
    _compiled(tokenizer, data)


def _need_tokens(tokenizer: Any, name: str, named: Named) -> None:
    known = tokenizer.get_vocab()
    if missing := [token for token in named.needs if token not in known]:
        free = listed(sorted(name for name, each in TEMPLATES.items() if not each.needs))
        raise refused(
            f"data.template: {name} is made of tokens that the model's tokenizer does not have: {listed(missing)}",
            f"use a model that has them, or a template that needs none: {free}",
        )


def _begins_texts(tokenizer: Any) -> bool:
    """Whether the tokenizer itself puts its begin-of-text token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[0] == tokenizer.bos_token_id


def _compiled(tokenizer: Any, data: training_pb2.Data) -> None:
    """Raises Refused, with the line, when a template is no Jinja."""
    from transformers.utils.chat_template_utils import _compile_jinja_template

    templates = tokenizer.chat_template or {}
    field = "data.chat_template_path" if data.chat_template_path else "the model's chat template"
    for source in templates.values() if isinstance(templates, dict) else [templates]:
        try:
            _compile_jinja_template(source)
        except TemplateSyntaxError as error:
            name = f"{field}: {Path(data.chat_template_path).name}" if data.chat_template_path else field
            raise refused(
                f"{name} is no Jinja template: line {error.lineno}: {error.message}",
                "correct that line, or set data.template to a template's name",
            ) from error
