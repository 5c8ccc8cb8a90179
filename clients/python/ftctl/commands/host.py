"""Commands about the host: its devices, the queue, the projects."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from ftctl import output, session
from ftctl.output import Format
from ftctl.show import devices
from ftctl.show import queue as show_queue

DeviceArgument = Annotated[str, typer.Argument(metavar="GPU", help="As in `ftctl gpus`: GPU 2, 2, or its UUID.")]


def gpus(
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Show the devices, their memory, and who holds it."""
    with session.connect() as client:
        host = client.host()
    if form is Format.TABLE:
        devices.devices(host)
    else:
        output.one(host.proto, form)


def queue(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")] = False,
    form: Annotated[
        Format, output.option(Format.TABLE, Format.WIDE, Format.JSON, Format.YAML, Format.JSONL, Format.NAME)
    ] = Format.TABLE,
) -> None:
    """Show the jobs that wait, in order, why, and when they start."""
    with session.connect() as client:
        waiting = client.queue()
    if quiet or form is Format.NAME:
        for job in waiting:
            output.line(job.job)
    elif form not in (Format.TABLE, Format.WIDE):
        output.many((job.proto for job in waiting), form)
    elif waiting:
        show_queue.table(waiting, form)
    else:
        session.note("no job waits")


def quarantine(
    gpu: DeviceArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="For those who read it later.")],
) -> None:
    """Start nothing on a GPU any more; jobs on it go on."""
    with session.connect() as client:
        client.quarantine_device(_device(gpu), reason=reason)
    output.line(f"{_device(gpu)}  quarantined")
    session.note_field("next:", f"ftctl release-gpu {shlex.quote(gpu)} when it is well again")


def release_gpu(gpu: DeviceArgument) -> None:
    """End a GPU's quarantine, whoever began it."""
    with session.connect() as client:
        client.release_device(_device(gpu))
    output.line(f"{_device(gpu)}  released")


def quota(
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML, Format.JSONL)] = Format.TABLE,
) -> None:
    """Show each project's share of the host, and what it holds of what it may."""
    with session.connect() as client:
        found = client.projects()
    if form is Format.TABLE:
        show_queue.projects(found)
    else:
        output.many((project.proto for project in found), form)


def _device(given: str) -> str:
    return f"GPU {given}" if given.isdigit() else given
