"""Commands about the host: its devices, the queue, the projects, and whether all is well from here to the daemon."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from ftclient import __version__
from ftclient.errors import FtError
from ftctl import exits, output, session, text
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


def version() -> None:
    """Show this program's version; doctor shows the daemon's."""
    output.line(f"ftctl {__version__}")


def doctor() -> None:
    """Check what has to be well for jobs to run."""
    output.line(f"ok    ftctl {__version__}, python {sys.version.split()[0]}")
    address = session.settings.address
    output.line(f"ok    looking for the daemon at {address or 'the default sockets (FTD_ADDRESS is not set)'}")
    try:
        with session.connect() as client:
            host = client.host(timeout=10)
            waiting = client.queue(timeout=10)
    except FtError:
        output.line("FAIL  the daemon does not answer")
        raise
    output.line(f"ok    daemon {host.version} on {host.hostname}, up since {text.clock(host.start_time)}")
    if host.version != __version__:
        output.line(f"warn  the daemon has version {host.version}, this program {__version__}")
    output.line(f"ok    devices by {host.inventory}: {', '.join(device.name or device.id for device in host.devices)}")
    foreign = [use for device in host.devices for use in device.uses if not use.job]
    if foreign:
        names = ", ".join(use.process_name or str(use.pid) for use in foreign)
        output.line(f"warn  device memory is held by what is not the daemon's: {names}; see `ftctl gpus`")
    for device in host.devices:
        if device.unfit:
            output.line(f"warn  {devices.label(device)} is not used: {device.unfit}")
    low = host.state_free_bytes < 2 * 1024**3
    output.line(f"{'warn' if low else 'ok  '}  {text.size(host.state_free_bytes)} free in {host.state_directory}")
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(host.jobs_by_state.items())) or "none"
    output.line(f"ok    jobs not ended: {jobs}; {len(waiting)} waiting")
    if not host.devices:
        output.line("FAIL  the host offers no device")
        raise typer.Exit(exits.FAILED)
