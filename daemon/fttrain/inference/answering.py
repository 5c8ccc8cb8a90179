"""One answer to a conversation, told as it is written, with the last adapter on or off.

The prompt is rendered as rows are for a training, so the model is asked in the form it learned. It must never know who
asks, nor how its words travel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, StoppingCriteria, TextStreamer

from finetuned.v1 import chat_service_pb2, training_pb2
from fttrain.data.forms import Message
from fttrain.data.problems import BadRow, refused
from fttrain.data.rendering import Renderer
from fttrain.methods import DTYPES

NEW_TOKENS = 512
Tell = Callable[[chat_service_pb2.GenerateResponse], None]


class CannotAnswer(Exception):
    """The question cannot be answered; the text says why."""


class Left(Exception):
    """The answer was left before its end."""


class Answerer:
    """A model and its tokenizer. Raises Refused where the tokenizer has no chat template."""

    def __init__(self, spec: training_pb2.TrainingSpec, model: Any, tokenizer: Any) -> None:
        self._spec = spec
        self._model = model
        self._tokenizer = tokenizer
        self._renderer = Renderer(tokenizer, spec.data)
        if not self._renderer.ready:
            raise refused(
                "the model's tokenizer has no chat template, so it cannot be talked to",
                "set data.template to the one it was trained with, or data.chat_template_path",
            )
        self._ends = self._tokens_that_end()

    def answer(self, request: chat_service_pb2.GenerateRequest, tell: Tell, left: Callable[[], bool]) -> None:
        """Tells the answer word by word, then its end; `left` is asked after each token whether to go on.

        Raises CannotAnswer, Left, and what `tell` raises.
        """
        prompt = self._prompt(request)
        most = min(request.max_new_tokens if request.HasField("max_new_tokens") else NEW_TOKENS, self._room(prompt))
        torch.manual_seed(request.seed if request.HasField("seed") else self._spec.seed)
        ids = torch.tensor([prompt], device=self._model.device)
        with torch.no_grad(), self._precision(), self._weights(base=request.base):
            written = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=self._settings(request, most),
                streamer=_Words(self._tokenizer, tell),
                stopping_criteria=[_Leaving(left)],
            )[0, len(prompt) :].tolist()
        ended = bool(written) and written[-1] in self._ends
        if not ended and len(written) < most:
            raise Left
        reason = chat_service_pb2.FINISH_REASON_STOP if ended else chat_service_pb2.FINISH_REASON_LENGTH
        end = chat_service_pb2.GenerateEnd(reason=reason, prompt_tokens=len(prompt), new_tokens=len(written))
        tell(chat_service_pb2.GenerateResponse(end=end))

    def _prompt(self, request: chat_service_pb2.GenerateRequest) -> list[int]:
        turns = [{"role": each.role, "content": each.content} for each in request.messages]
        try:
            return self._ids(self._renderer.written(turns), answer=True)
        except BadRow as error:
            raise CannotAnswer(str(error)) from error

    def _ids(self, turns: list[Message], *, answer: bool) -> list[int]:
        text = self._renderer.text(turns, None, answer=answer)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _room(self, prompt: list[int]) -> int:
        room: int = self._spec.data.max_length - len(prompt)
        if room < 1:
            raise CannotAnswer(
                f"the conversation has {len(prompt)} tokens, which leaves no room for an answer in the "
                f"{self._spec.data.max_length} of data.max_length; begin a new one"
            )
        return room

    def _settings(self, request: chat_service_pb2.GenerateRequest, most: int) -> GenerationConfig:
        drawn = {"temperature": request.temperature, "top_p": request.top_p if request.HasField("top_p") else 1.0}
        padding = self._tokenizer.pad_token_id
        return GenerationConfig(
            max_new_tokens=most,
            do_sample=request.temperature > 0,
            eos_token_id=self._ends,
            pad_token_id=self._ends[0] if padding is None else padding,
            **({**drawn, "top_k": 0} if request.temperature > 0 else {}),
        )

    def _weights(self, *, base: bool) -> contextlib.AbstractContextManager[None]:
        if not base:
            return contextlib.nullcontext()
        if not isinstance(self._model, PeftModel):
            raise CannotAnswer("the job has no adapter to leave out; ask a job of the other model")
        leaving_out: contextlib.AbstractContextManager[None] = self._model.disable_adapter()
        return leaving_out

    def _precision(self) -> torch.autocast:
        dtype = DTYPES[self._spec.compute.precision]
        return torch.autocast(self._model.device.type, dtype, enabled=dtype != torch.float32)

    def _tokens_that_end(self) -> list[int]:
        """The end of text, and the special token that the template puts after an answer."""
        known = self._model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])}
        turns = [{"role": "user", "content": "a"}]
        prompt = self._ids(turns, answer=True)
        whole = self._ids([*turns, {"role": "assistant", "content": "b"}], answer=False)
        special = set(self._tokenizer.all_special_ids)
        ends.add(next((token for token in reversed(whole[len(prompt) :]) if token in special), None))
        found = sorted(token for token in ends if token is not None)
        if not found:
            raise refused("the model's tokenizer has no end-of-text token", "set data.template to one that has")
        return found


class _Words(TextStreamer):  # type: ignore[misc]
    """Tells text as soon as no later token can change it."""

    def __init__(self, tokenizer: Any, tell: Tell) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Instead of printing."""
        if text:
            self._tell(chat_service_pb2.GenerateResponse(text=text))


class _Leaving(StoppingCriteria):  # type: ignore[misc]
    def __init__(self, left: Callable[[], bool]) -> None:
        self._left = left

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._left(), dtype=torch.bool, device=input_ids.device)
