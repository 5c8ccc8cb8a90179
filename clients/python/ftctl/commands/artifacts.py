"""Commands about what jobs leave: `artifacts` lists and fetches it, `checkpoints` lists and removes checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient.enums import ArtifactKind
from ftctl import output, session
from ftctl.commands.jobs import JobArgument
from ftctl.output import Format
from ftctl.show import files as show

if TYPE_CHECKING:
    from ftclient.stored import Artifact

Form = Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.JSONL, Format.YAML, Format.NAME)]


def artifacts(
    job: JobArgument,
    download: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Fetch it into this folder; run again, it goes on.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Which one to fetch, e.g. checkpoint-200.")] = "output",
    form: Form = Format.TABLE,
) -> None:
    """List what a job has left: its output and checkpoints. With --download fetch one, every file checked."""
    with session.connect() as client:
        job = session.last(client, job)
        if download is None:
            _print(client.artifacts(job), form)
            return
        with session.resumable(), show.bar("downloading") as progress:
            folder = client.download(job, download, artifact=name, progress=progress)
    output.line(str(folder))


def checkpoints(
    job: JobArgument,
    delete: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Remove this checkpoint; may be repeated.")
    ] = None,
    form: Form = Format.TABLE,
) -> None:
    """List the checkpoints of a job, newest first, or remove some that no job needs."""
    with session.connect() as client:
        job = session.last(client, job)
        for name in delete or ():
            client.delete_artifact(job, name)
            session.note(f"deleted {name}")
        if not delete:
            _print([each for each in client.artifacts(job) if each.kind is ArtifactKind.CHECKPOINT], form)


def _print(found: Sequence[Artifact], form: Format) -> None:
    match form:
        case Format.TABLE:
            show.artifacts(found)
        case Format.NAME:
            for each in found:
                output.line(each.name)
        case _:
            output.many([each.proto for each in found], form)
