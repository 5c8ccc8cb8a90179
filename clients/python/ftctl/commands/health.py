"""Commands about this installation: version, and doctor, which looks from here to the daemon and its host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ftclient import __version__
from ftclient.errors import FtError
from ftclient.skew import skew
from ftctl import exits, output, session, text
from ftctl.show import devices

if TYPE_CHECKING:
    from ftclient.host import Host

# What a checkpoint of a small model needs; below it jobs begin to fail.
_LITTLE_DISK = 2 * 1024**3
_OK, _WARN, _FAIL = "ok", "warn", "FAIL"
# How well, what, and how to mend it.
Finding = tuple[str, str, str]


def version(
    daemon: Annotated[bool, typer.Option("--daemon", help="The daemon's too, and what a difference means.")] = False,
) -> None:
    """Show this program's version, and with --daemon the daemon's."""
    output.line(f"ftctl {__version__}")
    if daemon:
        with session.connect() as client:
            host = client.host()
        output.line(f"ftd {host.version} on {host.hostname}")
        if told := skew(__version__, host.version):
            session.note(told)


def doctor() -> None:
    """Check what has to be well for jobs to run, and say how to mend what is not.

    Exit code: 0 well, 1 something has to be mended, 5 the daemon does not answer.
    """
    _tell(_here())
    try:
        with session.connect() as client:
            host = client.host(timeout=10)
            waiting = len(client.queue(timeout=10))
    except FtError:
        _tell([(_FAIL, "the daemon does not answer", "")])
        raise
    if _tell(_there(host, waiting)):
        raise typer.Exit(exits.FAILED)


def _here() -> Iterator[Finding]:
    from importlib.metadata import version as version_of

    from ftclient.contexts import target

    libraries = ", ".join(f"{name} {version_of(name)}" for name in ("grpcio", "protobuf"))
    yield _OK, f"ftctl {__version__}, python {sys.version.split()[0]}, {libraries}", ""
    found = target(session.settings.address, context=session.settings.context)
    security = ", by TLS" if found.secure else ""
    yield _OK, f"looking for the daemon at {', '.join(found.addresses)} ({found.origin}{security})", ""


def _there(host: Host, waiting: int) -> Iterator[Finding]:
    yield _OK, f"daemon {host.version} on {host.hostname}, up since {text.clock(host.start_time)}", ""
    if told := skew(__version__, host.version):
        what, _, mend = told.partition("; ")
        yield _WARN, what, mend
    yield from _devices(host)
    free = f"{text.size(host.state_free_bytes)} free in {host.state_directory}"
    low = host.state_free_bytes < _LITTLE_DISK
    yield (
        _WARN if low else _OK,
        free,
        "ftctl delete JOB removes what a job has left; `ftctl get` lists them" if low else "",
    )
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(host.jobs_by_state.items())) or "none"
    yield _OK, f"jobs not ended: {jobs}; {waiting} waiting", ""


def _devices(host: Host) -> Iterator[Finding]:
    if not host.devices:
        yield (
            _FAIL,
            f"the host offers no device ({host.inventory})",
            "see what `nvidia-smi` says there, then restart ftd",
        )
        return
    names = ", ".join(device.name or device.id for device in host.devices)
    yield _OK, f"devices by {host.inventory}: {names}", ""
    if foreign := [use for device in host.devices for use in device.uses if not use.job]:
        who = ", ".join(use.process_name or str(use.pid) for use in foreign)
        yield (
            _WARN,
            f"device memory is held by what is not the daemon's: {who}",
            "end it; `ftctl gpus` shows where it is",
        )
    for device in host.devices:
        if device.unfit:
            name = devices.label(device)
            mend = (
                f"ftctl release-gpu {device.index}, when it is well again" if device.quarantined else "see ftctl gpus"
            )
            yield _WARN, f"{name} is not used: {device.unfit}", mend


def _tell(findings: Iterator[Finding] | list[Finding]) -> bool:
    """Prints each at once; whether one of them is a failure."""
    failed = False
    for grade, what, mend in findings:
        output.line(f"{grade:<4}  {what}")
        if mend:
            output.line(f"      mend: {mend}")
        failed = failed or grade == _FAIL
    return failed
