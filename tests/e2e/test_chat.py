"""A chat in a process of its own thread: what it answers, with its adapter and without, and how it ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from peft import PeftModel
from tests.support import training as support
from transformers import AutoModelForCausalLM, AutoTokenizer

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import chat_service_pb2, event_pb2, training_pb2
from fttrain.inference import frames
from fttrain.rank import stops

SPEC = """
chat { idle_seconds: 60 }
model { dtype: DTYPE_FP32 attention: ATTENTION_SDPA }
data { max_length: 64 }
compute { precision: DTYPE_FP32 }
resources { device: DEVICE_KIND_CPU }
seed: 42
"""
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
QUESTION = [("user", "What is a queue?")]


@pytest.fixture(scope="module")
def adapter(smol_nano: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a training that changes what the model says."""
    run = tmp_path_factory.mktemp("trained")
    changes = "schedule { max_steps: 6 } optimizer { learning_rate: 0.05 }"
    support.train(support.bootstrap(run, support.resolved_spec(smol_nano, changes=changes), rows["sft"]))
    return run / "output"


class Chat:
    """A chat that runs in a thread of this process."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.results: list[Any] = []

    def connect(self) -> socket.socket:
        folder = os.open(self.run, os.O_RDONLY)
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(30)
        peer.connect(f"/proc/self/fd/{folder}/chat.sock")
        os.close(folder)
        return peer

    def ask(self, turns: list[tuple[str, str]], **options: Any) -> list[trainer_pb2.ChatPart]:
        request = chat_service_pb2.GenerateRequest(**options)
        for role, content in turns:
            request.messages.add(role=role, content=content)
        with self.connect() as peer:
            frames.send(peer, request)
            parts = [frames.receive(peer, trainer_pb2.ChatPart())]
            while not (parts[-1].refusal or parts[-1].answer.HasField("end")):
                parts.append(frames.receive(peer, trainer_pb2.ChatPart()))
        return parts


@contextmanager
def chatting(run: Path, model: Path, adapters: list[Path], changes: str = "") -> Iterator[Chat]:
    spec = text_format.Merge(f"{SPEC}{changes}", training_pb2.TrainingSpec())
    spec.model.path = str(model)
    for each in adapters:
        spec.model.adapters.add(path=str(each))
    chat, message = Chat(run), support.bootstrap(run, spec, run)
    thread = threading.Thread(target=lambda: chat.results.append(support.train(message)))
    thread.start()
    try:
        until((run / "chat.sock").exists, thread)
        yield chat
    finally:
        stops.ask()
        thread.join()


def until(there: Callable[[], bool], thread: threading.Thread) -> None:
    while not there():
        assert thread.is_alive()
        time.sleep(0.01)


def text(parts: list[trainer_pb2.ChatPart]) -> str:
    return "".join(part.answer.text for part in parts)


def plain(model: Any, tokenizer: Any, count: int) -> str:
    """The same answer by transformers alone."""
    turns = [{"role": role, "content": content} for role, content in QUESTION]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.no_grad():
        written = model.generate(**prompt, max_new_tokens=count, do_sample=False)
    answer: str = tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return answer


def test_one_model_answers_with_its_adapter_and_without(smol_nano: Path, adapter: Path, tmp_path: Path) -> None:
    with chatting(tmp_path, smol_nano, [adapter]) as chat:
        tuned, base = chat.ask(QUESTION, max_new_tokens=12), chat.ask(QUESTION, max_new_tokens=12, base=True)
        again = chat.ask(QUESTION, max_new_tokens=12)

    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    model = AutoModelForCausalLM.from_pretrained(smol_nano, dtype=torch.float32).eval()
    assert text(base) == plain(model, tokenizer, 12)
    assert text(tuned) == plain(PeftModel.from_pretrained(model, adapter).eval(), tokenizer, 12)
    assert text(tuned) != text(base)
    assert text(again) == text(tuned)
    assert len(tuned) > 2, "it is told as it is written"
    assert chat.results[0].outcome == event_pb2.OUTCOME_STOPPED
    assert not (tmp_path / "output").exists()
    assert not (tmp_path / "chat.sock").exists()


def test_drawn_answers_are_those_of_their_seed(smol_nano: Path, tmp_path: Path) -> None:
    drawn = {"max_new_tokens": 12, "temperature": 1.5}
    with chatting(tmp_path, smol_nano, []) as chat:
        first, same, other = (text(chat.ask(QUESTION, seed=seed, **drawn)) for seed in (1, 1, 2))
    assert first == same != other


def test_an_answer_ends_where_there_is_no_room_and_refusals_say_why(smol_nano: Path, tmp_path: Path) -> None:
    with chatting(tmp_path, smol_nano, []) as chat:
        end = chat.ask([("user", "word " * 20)])[-1].answer.end
        no_room = chat.ask([("user", "word " * 100)])[-1].refusal
        no_adapter = chat.ask(QUESTION, base=True)[-1].refusal
        assert text(chat.ask(QUESTION, max_new_tokens=2))
    if end.reason == chat_service_pb2.FINISH_REASON_LENGTH:
        assert end.prompt_tokens + end.new_tokens == 64
    assert "leaves no room for an answer in the 64 of data.max_length" in no_room
    assert "no adapter" in no_adapter


def test_who_hangs_up_ends_the_answer_and_nothing_else(smol_nano: Path, tmp_path: Path) -> None:
    with chatting(tmp_path, smol_nano, [], "data { max_length: 4000 }") as chat:
        with chat.connect() as peer:
            request = chat_service_pb2.GenerateRequest(max_new_tokens=3900, temperature=10)
            request.messages.add(role="user", content="a")
            frames.send(peer, request)
            frames.receive(peer, trainer_pb2.ChatPart())
        with chat.connect() as peer:
            peer.sendall(b"\xff\xff\xff\xffnonsense")
        assert text(chat.ask(QUESTION, max_new_tokens=2))


def test_a_chat_that_nobody_asks_has_succeeded(smol_nano: Path, tmp_path: Path) -> None:
    spec = text_format.Merge(f"{SPEC} chat {{ idle_seconds: 0.1 }}", training_pb2.TrainingSpec())
    spec.model.path = str(smol_nano)
    assert support.train(support.bootstrap(tmp_path, spec, tmp_path)).outcome == event_pb2.OUTCOME_COMPLETED
