"""Pushing an output to a hub: a small server on this machine that knows the three calls of an upload."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from finetuned.v1 import training_pb2
from fttrain.export import hub
from fttrain.failure import Refused

WANTED = training_pb2.Push(repository="team/support", private=True, token_secret="hub")  # noqa: S106 - its name


class Hub(ThreadingHTTPServer):
    """What was uploaded, and what was said of the repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.repository: dict[str, Any] = {}
        self.tokens: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_POST(self) -> None:
        body = self._body()
        self.server.tokens.add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            self.server.repository = json.loads(body)
            host, port = self.server.server_address[:2]
            self._answer({"url": f"http://{host!s}:{port}/team/support", "id": "1"})
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer(
                {"commitUrl": f"http://127.0.0.1:{self.server.server_port}/team/support/commit/abc", "commitOid": "abc"}
            )

        else:
            # Whether the card's front matter is one.
            self._answer({"errors": [], "warnings": []})

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        self._answer({"id": "team/support", "siblings": [], "sha": "0", "private": True})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    # The tests are offline, as a rank is unless its host allows a hub.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with Hub() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    (folder / "adapter").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# support\n")
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "token").write_text("hf_secret\n")
    return folder


def test_every_file_is_uploaded_in_one_commit(server: Hub, output: Path) -> None:
    endpoint = f"http://127.0.0.1:{server.server_port}"
    said = hub.push(output, WANTED, str(output.parent / "token"), endpoint)
    assert said == "the output was pushed to team/support, commit abc"
    assert server.files == {path: (output / path).read_bytes() for path in ("README.md", "adapter/adapter_config.json")}
    assert (server.repository["name"], server.repository["organization"]) == ("support", "team")
    assert server.repository["visibility"] == "private"
    assert server.tokens == {"Bearer hf_secret"}


def test_a_hub_that_is_not_there_fails_nothing(output: Path) -> None:
    said = hub.push(output, WANTED, str(output.parent / "token"), "http://127.0.0.1:9")
    assert said.startswith("the output could not be pushed to team/support: ")
    assert "hf_secret" not in said


@pytest.mark.parametrize(("content", "problem"), [(None, "cannot be read: No such file"), (" \n", "is empty")])
def test_a_token_that_is_not_there_is_refused_first(content: str | None, problem: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(Refused, match=rf"output\.push\.token_secret: the secret hub {problem}"):
        hub.check(WANTED, str(tmp_path / "token"))
