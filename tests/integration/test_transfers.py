"""The SDK moves files to and from a real daemon: cut, gone on with, damaged on the way, onto a full disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.daemon import Daemon

from ftclient import Client
from ftclient.aio import AsyncClient
from ftclient.errors import AlreadyExists, Corrupted, NotFound, TransferError
from ftclient.transfer import CHUNK, Sending, default_name

ROWS = b"".join(b'{"text": "row %d"}\n' % number for number in range(150_000))
SHA256 = hashlib.sha256(ROWS).hexdigest()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("transfers")) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(f"unix:{daemon.socket}") as made:
        yield made
        for dataset in list(made.datasets()):
            made.delete_dataset(dataset.name)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "My Rows.jsonl"
    file.write_bytes(ROWS)
    return file


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Rows.jsonl.gz", "my-rows"), ("a.b.parquet", "a.b"), ("…", "rows"), ("x" * 80 + ".csv", "x" * 63)],
)
def test_a_data_set_is_called_as_its_file(file: str, name: str) -> None:
    assert default_name(Path(file)) == name


def test_a_file_is_uploaded_once_and_trained_on(daemon: Daemon, client: Client, rows: Path) -> None:
    told: list[tuple[int, int]] = []
    sent = client.upload(rows, progress=lambda *at: told.append(at))
    assert (sent.name, sent.sha256, sent.bytes) == ("my-rows", SHA256, len(ROWS))
    assert told == [(min(at, len(ROWS)), len(ROWS)) for at in range(0, len(ROWS) + CHUNK, CHUNK)]
    told.clear()
    assert client.upload(rows, progress=lambda *at: told.append(at)) == sent
    assert told == [(len(ROWS), len(ROWS))]
    spec = daemon.spec(hold=True)
    del spec.training.data.train[0]
    spec.training.data.train.add(dataset="my-rows", format=5)
    job = client.submit(spec)
    assert [each.jobs for each in client.datasets()] == [1]
    client.cancel(job)
    client.delete_dataset("my-rows")
    with pytest.raises(NotFound, match="my-rows"):
        client.dataset("my-rows")


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop], ids=["killed", "stopped"])
def test_an_upload_outlives_the_daemon(
    daemon: Daemon, client: Client, rows: Path, end: Callable[[Daemon], object]
) -> None:
    told: list[int] = []

    def tell(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 3:
            end(daemon)
            daemon.start()

    assert client.upload(rows, progress=tell).sha256 == SHA256
    assert told[-1] == len(ROWS)


def test_other_contents_do_not_take_a_name(client: Client, rows: Path) -> None:
    client.upload(rows, name="x")
    rows.write_bytes(b"{}\n")
    with pytest.raises(AlreadyExists, match="'x'"):
        client.upload(rows, name="x")


def test_a_file_that_changes_while_it_is_sent_is_refused(
    client: Client, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Sending.of(rows, None)
    monkeypatch.setattr(Sending, "of", lambda *_: whole)
    rows.write_bytes(ROWS[:-2] + b"!\n")
    with pytest.raises(Corrupted, match="nothing of it is kept"):
        client.upload(rows)
    assert list(client.datasets()) == []


def test_a_file_that_is_not_there_is_said_in_words(client: Client, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="cannot be read") as caught:
        client.upload(tmp_path / "none.jsonl")
    assert caught.value.why == "No such file or directory"


def finished(daemon: Daemon, megabytes: int = 0) -> str:
    """A job that has succeeded, with a file of that size in its output."""
    return daemon.wait(
        daemon.submit({"steps": 4, "checkpoint_every": 2, "output_bytes": megabytes << 20}), "SUCCEEDED"
    ).id


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_artifact_is_fetched_whole_and_again_for_nothing(daemon: Daemon, client: Client, tmp_path: Path) -> None:
    job = finished(daemon, 3)
    output = Path(client.artifacts(job)[0].path)
    told: list[tuple[int, int]] = []
    folder = client.download(job, tmp_path / "a" / "b", progress=lambda *at: told.append(at))
    assert contents(folder) == contents(output)
    assert told[-1][0] == told[-1][1] == sum(file.bytes for file in client.artifacts(job)[0].files)
    assert len(told) > 3
    told.clear()
    client.download(job, folder, progress=lambda *at: told.append(at))
    assert len(told) == len(client.artifacts(job)[0].files)
    client.download(job, tmp_path / "c", artifact="checkpoint-2")
    assert (tmp_path / "c" / "state.json").exists()


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.stop], ids=["killed", "stopped"])
def test_a_download_goes_on_where_it_was(
    daemon: Daemon, client: Client, tmp_path: Path, end: Callable[[Daemon], object]
) -> None:
    job = finished(daemon, 3)
    output = Path(client.artifacts(job)[0].path)
    told: list[int] = []

    def tell(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 3:
            end(daemon)
            daemon.start()

    assert contents(client.download(job, tmp_path / "a", progress=tell)) == contents(output)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "weights.bin.part").write_bytes((output / "weights.bin").read_bytes()[: 2 << 20])
    told.clear()
    client.download(job, tmp_path / "b", progress=lambda done, _: told.append(done))
    assert told[-1] - told[-2] <= 1 << 20
    assert contents(tmp_path / "b") == contents(output)


def test_a_damaged_part_is_found_and_not_kept(daemon: Daemon, client: Client, tmp_path: Path) -> None:
    job = finished(daemon, 1)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights.bin.part").write_bytes(b"damaged")
    with pytest.raises(TransferError, match="another checksum"):
        client.download(job, tmp_path / "a")
    assert not list((tmp_path / "a").glob("weights*"))
    client.download(job, tmp_path / "a")


def test_another_file_in_the_way_is_not_overwritten(daemon: Daemon, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text("mine")
    with pytest.raises(TransferError, match="is another file"):
        client.download(finished(daemon), tmp_path / "a")


def test_a_full_disk_is_said_and_the_download_goes_on_later(
    daemon: Daemon, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, fsync = finished(daemon, 1), os.fsync

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError) as caught:
        client.download(job, tmp_path / "a")
    assert (caught.value.why, "goes on where it was" in caught.value.advice) == ("No space left on device", True)
    monkeypatch.setattr(os, "fsync", fsync)
    client.download(job, tmp_path / "a")


def ftctl(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ftctl")), "--address", f"unix:{daemon.socket}", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_moves_the_same_files(daemon: Daemon, client: Client, rows: Path, tmp_path: Path) -> None:
    sent = ftctl(daemon, "data", "upload", str(rows), "--name", "support", "-q")
    assert (sent.returncode, sent.stdout) == (0, "support\n")
    assert ftctl(daemon, "data", "list").stdout.splitlines()[1].split()[0] == "support"
    removed = ftctl(daemon, "data", "delete", "support", "nobody")
    assert (removed.returncode, removed.stderr.splitlines()[0]) == (1, "deleted support")
    assert "no data set has the name" in removed.stderr
    job, folder = finished(daemon), tmp_path / "a"
    fetched = ftctl(daemon, "artifacts", job, "--download", str(folder))
    assert (fetched.returncode, fetched.stdout) == (0, f"{folder}\n")
    assert (folder / "manifest.json").exists()
    assert ftctl(daemon, "checkpoints", job, "--delete", "checkpoint-2").stderr == "deleted checkpoint-2\n"
    assert ftctl(daemon, "checkpoints", job, "-o", "name").stdout == "checkpoint-4\n"
    refused = ftctl(daemon, "checkpoints", job, "--delete", "output")
    assert refused.returncode == 6
    assert "ftctl delete JOB" in refused.stderr


def test_the_same_on_an_event_loop(daemon: Daemon, rows: Path, tmp_path: Path) -> None:
    job = finished(daemon, 2)

    async def story() -> None:
        async with AsyncClient(f"unix:{daemon.socket}") as client:
            assert (await client.upload(rows)).sha256 == SHA256
            assert [each.name async for each in client.datasets()] == ["my-rows"]
            await client.download(job, tmp_path / "a")
            await client.delete_artifact(job, "checkpoint-2")
            assert [each.name for each in await client.artifacts(job)] == ["output", "checkpoint-4"]
            with pytest.raises(NotFound, match="checkpoint-2"):
                await client.download(job, tmp_path / "b", artifact="checkpoint-2")

    asyncio.run(story())
    assert (tmp_path / "a" / "weights.bin").stat().st_size == 2 << 20
