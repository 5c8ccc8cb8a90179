"""The command `completion`, and what the shell is told: jobs there are, as long as the daemon answers at once."""

from __future__ import annotations

import os
from enum import StrEnum, auto
from typing import Annotated

import typer

from ftctl import output, session

# By this the scripts ask, and typer answers.
VARIABLE = "_FTCTL_COMPLETE"
# A person has pressed a key and waits.
_SECONDS = 1.0
_JOBS = 50


class Shell(StrEnum):
    """The shells that have a script."""

    BASH = auto()
    ZSH = auto()
    FISH = auto()


def completion(shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]) -> None:
    """Print the script that completes commands, options and jobs in a shell."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    output.line(get_completion_script(prog_name="ftctl", complete_var=VARIABLE, shell=shell))


def asked() -> bool:
    """Whether a shell asks for completions, and this is no command."""
    return VARIABLE in os.environ


def jobs(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids that begin so, and names that only one job has, with its state; none if the daemon is not there."""
    from collections import Counter
    from itertools import islice

    from ftclient.errors import FtError

    given = ctx.find_root().params
    session.settings.address, session.settings.context = given.get("address"), given.get("context")
    try:
        with session.connect() as client:
            found = list(islice(client.list(page_size=_JOBS, timeout=_SECONDS), _JOBS))
    except FtError:
        return []
    shared = Counter(job.name for job in found)
    names = {"@last": "the newest job"} if found else {}
    for job in found:
        names[job.id] = f"{job.name}, {job.state}"
        if shared[job.name] == 1:
            names[job.name] = f"{job.id}, {job.state}"
    return [(name, told) for name, told in names.items() if name.startswith(incomplete)]
