"""The call that asks a chat."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from finetuned.v1 import chat_service_pb2, chat_service_pb2_grpc
from ftclient.calls.base import Caller, reference
from ftclient.chat import Generated
from ftclient.results import Job
from ftclient.transport import Method
from ftclient.wire import read

_pb = chat_service_pb2


class ChatCalls(Caller):
    """ChatService."""

    async def generate(
        self,
        job: str | Job,
        messages: Iterable[tuple[str, str]],
        *,
        base: bool = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> AsyncGenerator[Generated]:
        """The answer of a running job whose stage is chat, word by word; the last one yielded has its `end`.

        `messages` are turns, each a role (system, user, assistant, tool) and what it says. `base` leaves the adapter
        out. Closing the iterator ends the answer. Never repeated: a drawn answer would be another.
        Raises InvalidRequest, WrongState, LimitReached.
        """
        request = _pb.GenerateRequest(
            job=reference(job),
            messages=[_pb.ChatMessage(role=role, content=content) for role, content in messages],
            base=base,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        answers = self._connection.messages(
            Method(chat_service_pb2_grpc.ChatServiceStub, "Generate"),
            lambda: request,
            lambda part: part.HasField("end"),
            repeatable=False,
        )
        async with aclosing(answers):
            async for part in answers:
                yield read(Generated, part)
