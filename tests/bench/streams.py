"""Events a second through one stream and through 100, and what streams cost the daemon in memory.

The reader takes the messages as bytes, so that the daemon is measured and not this program's parsing; one parsed run
says what a client that looks at every event gets.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import grpc
from tests.bench import table
from tests.support.daemon import Daemon

from finetuned.v1 import metric_service_pb2

STEPS = 50_000
STREAMS = 100


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Daemon(Path(folder)) as daemon:
        table.title("memory of the daemon")
        rest = resident(daemon)
        table.line("at rest", rest, "MiB")
        job = daemon.submit({"steps": 10, "hang_at": 5})
        daemon.until_step(job, 4)
        asyncio.run(idle(daemon, job, rest))
        daemon.stop()
        daemon.sweep()
        daemon.start()

        table.title(f"a finished job of {STEPS:,} steps, read again")
        job = daemon.submit({"steps": STEPS})
        daemon.wait(job, "SUCCEEDED", seconds=300)
        table.line("one stream, parsed", parsed(daemon, job), "events/s")
        one = asyncio.run(read(daemon, job, 1))
        table.line("one stream, bytes", one, "events/s")
        table.line(f"{STREAMS} streams, bytes", asyncio.run(read(daemon, job, STREAMS)), "events/s", "one stream", one)


def resident(daemon: Daemon) -> float:
    """Resident memory in MiB."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def idle(daemon: Daemon, job: str, rest: float) -> None:
    """What so many quiet subscribers cost."""
    async with grpc.aio.insecure_channel(f"unix:{daemon.socket}", options=[("grpc.http2.bdp_probe", 0)]) as channel:
        calls = [stream(channel, job) for _ in range(STREAMS)]
        for call in calls:
            await call.read()
        await asyncio.sleep(1)
        full = resident(daemon)
        table.line(f"with {STREAMS} streams", full, "MiB", "at rest", rest)
        table.line("a stream", (full - rest) * 1024 / STREAMS, "KiB")


def stream(channel: grpc.aio.Channel, job: str) -> grpc.aio.UnaryStreamCall:
    """A stream whose messages are left as bytes."""
    method = channel.unary_stream(
        "/finetuned.v1.MetricService/StreamMetrics",
        request_serializer=metric_service_pb2.StreamMetricsRequest.SerializeToString,
    )
    return method(metric_service_pb2.StreamMetricsRequest(job=job))


async def read(daemon: Daemon, job: str, streams: int) -> float:
    """Events a second, all streams together."""

    async def one(channel: grpc.aio.Channel) -> None:
        async for _ in stream(channel, job):
            pass

    async with grpc.aio.insecure_channel(f"unix:{daemon.socket}", options=[("grpc.http2.bdp_probe", 0)]) as channel:
        begin = time.perf_counter()
        await asyncio.gather(*(one(channel) for _ in range(streams)))
        return STEPS * streams / (time.perf_counter() - begin)


def parsed(daemon: Daemon, job: str) -> float:
    begin = time.perf_counter()
    count = len(daemon.events(job))
    return count / (time.perf_counter() - begin)
