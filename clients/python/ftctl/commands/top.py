"""The command `top`: the whole host on one screen."""

from __future__ import annotations

from typing import Annotated

import typer

from ftctl import output, session


def top(
    period: Annotated[
        float, typer.Option("--period", min=0.2, max=3600, metavar="SECONDS", help="Between two looks at the host.")
    ] = 2.0,
) -> None:
    """Watch the host: devices, jobs, the queue and why each waits; keys open, cancel, hold."""
    if not output.console().is_terminal:
        raise typer.BadParameter("top needs a terminal; in a pipe use ftctl gpus, ftctl queue or ftctl get -w")
    from ftctl.top.app import Top

    with session.connect() as client:
        # Says so here, in words, if nobody answers.
        client.host()
    Top(session.connect, period).run()
