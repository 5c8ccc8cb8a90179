"""Chats of a real daemon: who may ask what, and what becomes of questions when the job does something else.

What answers is a small server in the run directory, in place of a model.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from tests.support.daemon import Daemon, refusal

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import chat_service_pb2, chat_service_pb2_grpc, job_pb2, job_service_pb2

USER = chat_service_pb2.ChatMessage(role="user", content="hi")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield daemon


@pytest.fixture
def chat(daemon: Daemon) -> Iterator[str]:
    """A job that is a chat and runs; nobody listens in its run directory yet."""
    spec = job_pb2.JobSpec()
    spec.training.model.path = str(daemon.model)
    spec.training.chat.SetInParent()
    spec.training.resources.memory_bytes = 64 * 2**20
    job = daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec)).job.id
    daemon.wait(job, "RUNNING")
    yield job
    if daemon.state_of(job) == "RUNNING":
        daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job))


def ask(daemon: Daemon, job: str, **fields: Any) -> list[chat_service_pb2.GenerateResponse]:
    request = chat_service_pb2.GenerateRequest(job=job, **{"messages": [USER], **fields})
    return list(chat_service_pb2_grpc.ChatServiceStub(daemon.channel).Generate(request, timeout=30))


@contextmanager
def listening(daemon: Daemon, job: str) -> Iterator[socket.socket]:
    folder = os.open(daemon.state / "runs" / job, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/chat.sock")
        os.close(folder)
        listener.listen()
        listener.settimeout(30)
        yield listener


def answer(listener: socket.socket, *parts: bytes) -> None:
    """Hears one question and says this, as bytes; then it hangs up."""
    peer, _ = listener.accept()
    with peer:
        peer.recv(1 << 16)
        peer.sendall(b"".join(parts))


def framed(**part: Any) -> bytes:
    data = trainer_pb2.ChatPart(**part).SerializeToString()
    return len(data).to_bytes(4, "big") + data


TEXT = framed(answer={"text": "ha"})
END = framed(answer={"end": {"reason": chat_service_pb2.FINISH_REASON_STOP}})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((TEXT, END), "ha"),
        ((TEXT,), (grpc.StatusCode.ABORTED, "CHAT_ENDED")),
        ((b"\xff\xff\xff\xff",), (grpc.StatusCode.ABORTED, "CHAT_ENDED")),
        ((b"\x00\x00\x00\x03", b"\xff\xff\xff"), (grpc.StatusCode.ABORTED, "CHAT_ENDED")),
        ((framed(refusal="no room"),), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
    ],
    ids=["whole", "cut", "endless", "nonsense", "refused"],
)
def test_an_answer_is_handed_on_or_said_to_be_none(
    said: tuple[bytes, ...], expected: Any, daemon: Daemon, chat: str
) -> None:
    with listening(daemon, chat) as listener, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer, listener, *said)
        if isinstance(expected, str):
            assert "".join(part.text for part in ask(daemon, chat)) == expected
        else:
            assert refusal(lambda: ask(daemon, chat))[:2] == expected
        answering.result()


def test_who_hangs_up_is_heard_by_the_chat(daemon: Daemon, chat: str) -> None:
    with listening(daemon, chat) as listener:
        stub = chat_service_pb2_grpc.ChatServiceStub(daemon.channel)
        call = stub.Generate(chat_service_pb2.GenerateRequest(job=chat, messages=[USER]))
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(30)
            peer.recv(1 << 16)
            peer.sendall(TEXT)
            next(call)
            call.cancel()
            assert peer.recv(1) == b""


def test_a_question_waits_for_the_model_and_ends_with_the_job(daemon: Daemon, chat: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(refusal, lambda: ask(daemon, chat))
        daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=chat))
        code, reason, message = asking.result()
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    assert "talk to needs a job that is running" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "whose last turn is the user's"),
        ({"messages": [USER, {"role": "assistant", "content": "a"}]}, "whose last turn is the user's"),
        ({"messages": [{"role": "robot"}, USER]}, "messages[0].role: is 'robot'"),
        ({"messages": [{"role": "user", "content": "a" * (1 << 20)}]}, "accepted are at most 1048576"),
        ({"temperature": -1}, "temperature: is -1; accepted is 0 to 10"),
        ({"temperature": float("nan"), "top_p": 0}, "top_p: is 0; accepted is above 0, up to 1"),
        ({"max_new_tokens": 0}, "max_new_tokens: is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], words: str, daemon: Daemon) -> None:
    code, reason, message = refusal(lambda: ask(daemon, "nobody", **fields))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert words in message


def test_a_job_that_trains_is_no_chat(daemon: Daemon) -> None:
    job = daemon.submit({"steps": 1})
    code, reason, message = refusal(lambda: ask(daemon, job))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert "is no chat" in message


def test_at_most_eight_questions_of_a_job_are_under_way(daemon: Daemon, chat: str) -> None:
    stub = chat_service_pb2_grpc.ChatServiceStub(daemon.channel)
    with listening(daemon, chat) as listener:
        calls = [stub.Generate(chat_service_pb2.GenerateRequest(job=chat, messages=[USER])) for _ in range(8)]
        peers = [listener.accept()[0] for _ in calls]
        code, _, message = refusal(lambda: ask(daemon, chat))
        for call, peer in zip(calls, peers, strict=True):
            call.cancel()
            peer.close()
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "8 questions" in message
