from __future__ import annotations

import grpc
import pytest
from tests.fakes.daemon import FakeDaemon

from finetuned.v1 import chat_service_pb2
from ftclient import Client, Unavailable
from ftclient.aio import AsyncClient
from ftclient.enums import FinishReason

HI = [("system", "Be kind."), ("user", "hi")]


def test_an_answer_comes_in_parts_and_its_end_last(daemon: FakeDaemon, client: Client) -> None:
    parts = list(client.generate("chat", HI, base=True, top_p=0.9))
    assert "".join(part.text or "" for part in parts) == "base heard 'hi' in turn 2"
    assert parts[-1].end is not None
    assert (parts[-1].end.reason, parts[-1].end.new_tokens) == (FinishReason.STOP, 3)
    [request] = daemon.requests
    assert isinstance(request, chat_service_pb2.GenerateRequest)
    assert (request.job, request.top_p, request.HasField("temperature")) == ("chat", 0.9, False)


async def test_it_comes_on_an_event_loop_as_well(daemon: FakeDaemon) -> None:
    async with AsyncClient(daemon.address) as client:
        parts = [part async for part in client.generate("chat", HI)]
    assert "".join(part.text or "" for part in parts) == "tuned heard 'hi' in turn 2"


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK])
def test_an_answer_that_is_cut_is_not_asked_for_again(
    code: grpc.StatusCode, daemon: FakeDaemon, client: Client
) -> None:
    daemon.cuts.append(2)
    daemon.cut_code = code
    heard: list[str] = []
    with pytest.raises(Unavailable):
        heard.extend(part.text or "" for part in client.generate("chat", HI))
    assert len(daemon.requests) == 1
