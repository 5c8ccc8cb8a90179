"""ChatService: hands questions to the chat of a job and its answers back. It must never keep a word of either."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager

from finetuned.v1 import chat_service_pb2, chat_service_pb2_grpc
from ftd import chats
from ftd.doorbells import Doorbells
from ftd.errors import InvalidRequest, TooMuch, WrongState
from ftd.inference import Chat
from ftd.queue import Queue
from ftd.records import JobState
from ftd.rundir import RunDirectories
from ftd.service.errors import Context
from ftd.service.metrics import StreamLimit

MOST_BYTES = 1 << 20
# Questions of one job that wait or are answered. Fewer than its socket holds.
QUESTIONS = 8
ROLES = ("system", "user", "assistant", "tool")
_LAST_ROLES = ("user", "tool")
_HIGHEST_TEMPERATURE = 10


class ChatService(chat_service_pb2_grpc.ChatServiceServicer):
    """Answers of jobs."""

    def __init__(self, queue: Queue, runs: RunDirectories, doorbells: Doorbells, streams: StreamLimit) -> None:
        self._queue = queue
        self._runs = runs
        self._doorbells = doorbells
        self._streams = streams
        self._asked: Counter[str] = Counter()

    async def Generate(
        self, request: chat_service_pb2.GenerateRequest, _context: Context
    ) -> AsyncIterator[chat_service_pb2.GenerateResponse]:
        """One answer, as it is written."""
        if problems := "; ".join(_problems(request)):
            raise InvalidRequest(problems)
        job = await self._queue.find(request.job)
        if not isinstance(job.resolved.stage, Chat):
            raise InvalidRequest(f"job {job.id} is no chat; accepted is a job whose stage is chat")
        with self._streams.one(), self._one_of(job.id):
            peer = await self._listening(job.id)
            async with aclosing(chats.ask(peer, request)) as answer:
                async for part in answer:
                    yield part

    async def _listening(self, job_id: str) -> chats.Peer:
        """A connection to the job, as soon as its model is loaded. Raises WrongState, JobNotFound."""
        path = self._runs.get(job_id).path
        with self._doorbells.bell(path) as bell:
            while True:
                job = await self._queue.get(job_id)
                if job.state is not JobState.RUNNING:
                    raise WrongState(job.id, job.state, "talk to", "running")
                if peer := await chats.connect(path):
                    return peer
                await bell.wait()

    @contextmanager
    def _one_of(self, job_id: str) -> Iterator[None]:
        if self._asked[job_id] >= QUESTIONS:
            raise TooMuch(f"{QUESTIONS} questions to job {job_id} are under way; wait for one of them")
        self._asked[job_id] += 1
        try:
            yield
        finally:
            self._asked[job_id] -= 1
            if not self._asked[job_id]:
                del self._asked[job_id]


def _problems(request: chat_service_pb2.GenerateRequest) -> Iterator[str]:
    size = request.ByteSize()
    if size > MOST_BYTES:
        yield f"messages: the request has {size} bytes; accepted are at most {MOST_BYTES}"
    for index, message in enumerate(request.messages):
        if message.role not in ROLES:
            yield f"messages[{index}].role: is {message.role!r}; accepted is {', '.join(ROLES)}"
    if not request.messages or request.messages[-1].role not in _LAST_ROLES:
        yield "messages: accepted is a conversation whose last turn is the user's or a tool's"
    if request.HasField("max_new_tokens") and not request.max_new_tokens:
        yield "max_new_tokens: is 0; accepted is at least 1"
    if request.HasField("temperature") and not 0 <= request.temperature <= _HIGHEST_TEMPERATURE:
        yield f"temperature: is {request.temperature:g}; accepted is 0 to {_HIGHEST_TEMPERATURE}"
    if request.HasField("top_p") and not 0 < request.top_p <= 1:
        yield f"top_p: is {request.top_p:g}; accepted is above 0, up to 1"
