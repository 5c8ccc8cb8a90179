"""Bytes of an artifact as a client fetches them: one file, or the whole folder as a tar, from any place on.

A tar is laid out from the manifest alone, without times and owners, so the same range has the same bytes each time.
Files are opened below the artifact's folder without following links. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from ftd import manifest
from ftd.errors import ArtifactChanged, ArtifactNotFound, InvalidRequest
from ftd.files import open_file, open_folder, read_file
from ftd.records import Artifact, ArtifactFile

# In one message.
CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the artifact, of so many bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Download:
    """What can be fetched: pieces one after the other, each a file or bytes of its own. One file has a hash."""

    folder: Path
    pieces: tuple[_File | bytes, ...]
    sha256: str = ""

    @property
    def size(self) -> int:
        """Size of the whole."""
        return sum(map(_size, self.pieces))

    def read(self, offset: int, length: int | None) -> Iterator[bytes]:
        """The bytes from `offset`, at most `length`, in chunks. Raises InvalidRequest, ArtifactChanged."""
        if offset > self.size:
            raise InvalidRequest(f"offset is {offset}; accepted is 0 to {self.size}")
        left = self.size - offset if length is None else length
        for piece in self.pieces:
            skipped = min(offset, _size(piece))
            wanted = min(left, _size(piece) - skipped)
            offset, left = offset - skipped, left - wanted
            if wanted:
                yield from self._read(piece, skipped, wanted)

    def _read(self, piece: _File | bytes, offset: int, length: int) -> Iterator[bytes]:
        if isinstance(piece, bytes):
            yield piece[offset : offset + length]
            return
        file = self._open(piece)
        try:
            end = offset + length
            while offset < end:
                read = os.pread(file, min(CHUNK, end - offset), offset)
                if not read:
                    raise ArtifactChanged(piece.path)
                offset += len(read)
                yield read
        finally:
            os.close(file)

    def _open(self, piece: _File) -> int:
        path = PurePosixPath(piece.path)
        try:
            folder = open_folder(self.folder.parent, str(self.folder.name / path.parent))
            try:
                file = open_file(folder, path.name)
            finally:
                os.close(folder)
        except OSError:
            raise ArtifactChanged(piece.path) from None
        if os.fstat(file).st_size != piece.bytes:
            os.close(file)
            raise ArtifactChanged(piece.path)
        return file


def of_file(artifact: Artifact, path: str) -> Download:
    """One file of the artifact, or its manifest. Raises ArtifactNotFound, ArtifactChanged."""
    files = {file.path: file for file in (*artifact.files, _manifest(artifact))}
    if path not in files:
        raise ArtifactNotFound(f"artifact {artifact.name}", path, sorted(files))
    return Download(Path(artifact.path), (_File(path, files[path].bytes),), files[path].sha256)


def of_folder(artifact: Artifact) -> Download:
    """All files and the manifest, as a tar with one folder. Raises ArtifactChanged."""
    files: Sequence[ArtifactFile] = (*artifact.files, _manifest(artifact))
    members = chain.from_iterable(_member(f"{artifact.name}/{file.path}", file) for file in files)
    return Download(Path(artifact.path), (*members, bytes(2 * tarfile.BLOCKSIZE)))


def _member(name: str, file: ArtifactFile) -> tuple[_File | bytes, ...]:
    header = tarfile.TarInfo(name)
    header.size = file.bytes
    padding = bytes(-file.bytes % tarfile.BLOCKSIZE)
    return header.tobuf(tarfile.GNU_FORMAT), _File(file.path, file.bytes), padding


def _manifest(artifact: Artifact) -> ArtifactFile:
    """The manifest as a file, which does not list itself."""
    folder = Path(artifact.path)
    content = read_file(folder.parent, f"{folder.name}/{manifest.NAME}", manifest.LONGEST)
    if content is None:
        raise ArtifactChanged(manifest.NAME)
    return ArtifactFile(manifest.NAME, len(content), hashlib.sha256(content).hexdigest())


def _size(piece: _File | bytes) -> int:
    return piece.bytes if isinstance(piece, _File) else len(piece)
