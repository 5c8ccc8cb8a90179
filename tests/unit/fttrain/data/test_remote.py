"""Rows from URLs, against fsspec's file system in memory and a server on this host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest

from fttrain.data import remote
from fttrain.failure import Refused
from fttrain.prepare import Stopped

pytest.importorskip("aiohttp", reason="https needs aiohttp")


class Server(BaseHTTPRequestHandler):
    """Answers by the path."""

    def do_GET(self) -> None:
        if self.path == "/rows.jsonl":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"text": "a"}\n' * 100)
        elif self.path.startswith("/away"):
            self.send_response(302)
            # The same machine by another address: as private as any.
            self.send_header("Location", f"http://127.0.0.2:{self.server.server_address[1]}/rows.jsonl")
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("0.0.0.0", 0), Server)  # noqa: S104
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(url: str, folder: Path, limit: int = 10_000) -> Path:
    return remote.fetch(url, "data.train[0]", folder / "fetched", limit, lambda: None)


def refusal(url: str, folder: Path, limit: int = 10_000) -> str:
    with pytest.raises(Refused) as refused:
        fetch(url, folder, limit)
    assert refused.value.advice
    return refused.value.message


def test_a_file_is_fetched_whole(address: str, tmp_path: Path) -> None:
    found = fetch(f"{address}/rows.jsonl", tmp_path)
    assert found.name == "rows.jsonl"
    assert len(found.read_text().splitlines()) == 100


def test_what_is_too_large_is_refused_wherever_it_comes_from(address: str, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/sets/a.csv", b"a\n1\n")
    assert fetch("memory://sets/a.csv", tmp_path).read_text() == "a\n1\n"
    for url in ("memory://sets/a.csv", f"{address}/rows.jsonl"):
        expected = f"data.train[0]: {url} has more than 3 bytes, the most that this host fetches"
        assert refusal(url, tmp_path, limit=3) == expected


def test_a_server_cannot_send_to_what_only_this_host_reaches(address: str, tmp_path: Path) -> None:
    message = refusal(f"{address}/away.jsonl", tmp_path)
    assert "cannot be fetched" in message
    assert "127.0.0.2 is not a public address" in message


def test_what_is_not_there_is_refused_with_its_url(address: str, tmp_path: Path) -> None:
    url = f"{address}/gone.jsonl"
    assert refusal(url, tmp_path).startswith(f"data.train[0]: {url} cannot be fetched: ")
    assert "cannot be fetched" in refusal("http://nowhere.invalid/a.csv", tmp_path)


def test_a_request_to_stop_ends_it(address: str, tmp_path: Path) -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        remote.fetch(f"{address}/rows.jsonl", "data.train[0]", tmp_path, 10_000, stop)
