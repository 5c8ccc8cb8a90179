from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from ftd import downloads
from ftd.errors import ArtifactChanged
from ftd.records import Artifact, ArtifactFile, ArtifactKind

FILES = {"adapter.bin": b"x" * 3000, "nested/" + "long" * 60 + ".json": b"{}", "empty": b""}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "output"
    for name, content in {**FILES, "manifest.json": b"{}"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    files = tuple(ArtifactFile(name, len(c), hashlib.sha256(c).hexdigest()) for name, c in FILES.items())
    return Artifact(ArtifactKind.ADAPTER, "output", str(folder), 1, files, sum(map(len, FILES.values())))


def test_every_range_of_a_tar_is_that_of_the_whole(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "CHUNK", 700)
    tar = downloads.of_folder(artifact)
    whole = b"".join(tar.read(0, None))
    assert len(whole) == tar.size
    with tarfile.open(fileobj=io.BytesIO(whole)) as found:
        members = {member.name: found.extractfile(member) for member in found.getmembers()}
        assert {name: file.read() for name, file in members.items() if file} == {
            f"output/{name}": content for name, content in {**FILES, "manifest.json": b"{}"}.items()
        }
    for offset in range(0, tar.size + 1, 97):
        assert b"".join(tar.read(offset, 1000)) == whole[offset : offset + 1000]


def test_chunks_are_small(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "CHUNK", 1000)
    assert [len(chunk) for chunk in downloads.of_file(artifact, "adapter.bin").read(500, None)] == [1000, 1000, 500]


@pytest.mark.parametrize("change", ["shorter", "longer", "gone", "link", "folder is a link"])
def test_what_is_not_as_the_manifest_says_is_not_sent(artifact: Artifact, change: str) -> None:
    file = Path(artifact.path) / "adapter.bin"
    match change:
        case "shorter" | "longer":
            file.write_bytes(b"x" * (2999 if change == "shorter" else 3001))
        case "gone":
            file.unlink()
        case "link":
            file.rename(file.with_name("other"))
            file.symlink_to("other")
        case _:
            download = downloads.of_file(artifact, "adapter.bin")
            folder = Path(artifact.path)
            folder.rename(folder.with_name("elsewhere"))
            folder.symlink_to("elsewhere")
            with pytest.raises(ArtifactChanged):
                list(download.read(0, None))
            return
    with pytest.raises(ArtifactChanged, match=r"adapter\.bin"):
        list(downloads.of_folder(artifact).read(0, None))
