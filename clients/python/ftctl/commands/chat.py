"""The command chat: a job that answers, and the conversation with it in a terminal or a pipe.

What is asked comes from standard input, a line a turn; what is answered goes to standard output, and all else to
standard error. The job is cancelled when the conversation ends, however it ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.errors import FtError, InvalidRequest, InvalidSpec
from ftctl import exits, output, session
from ftctl.commands import spec, uses

if TYPE_CHECKING:
    from ftclient import Client, Job

_HELP = "/reset begins anew, /base asks the model without its adapter or with it again, /quit leaves"


class Versus(StrEnum):
    """Whom the answers are compared with."""

    BASE = "base"


def chat(
    job: uses.Model,
    versus: Annotated[Versus | None, typer.Option("--vs", help="Answer twice, also without the adapter.")] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="What the conversation begins with.")] = "",
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token; above, they are drawn.")
    ] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest tokens with this share.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of an answer. Default: 512.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the drawing.")] = None,
    overrides: spec.Overrides = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the job running, until it is idle for long.")] = False,
) -> None:
    """Talk with a job's model, in a job of its own that waits for memory like any other.

    JOB may also be a chat that was kept. In a pipe each line of the input is a turn. /reset begins anew, /base leaves
    the adapter out or takes it in again, /quit leaves. Ctrl-C ends an answer, and between answers leaves.
    """
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": max_tokens, "seed": seed}
    with session.connect() as client, _chat_job(client, job, overrides or [], keep=keep) as found:
        both = versus is Versus.BASE
        Conversation(client, found.id, system, options, both=both).hold()


@contextmanager
def _chat_job(client: Client, name: str, overrides: list[str], *, keep: bool) -> Iterator[Job]:
    """A chat that runs: the job of that name if it is one, else a new one, which is cancelled at the end."""
    with ExitStack() as leaving:
        job = _kept(client, name)
        if job is None:
            job = _submit(client, name, overrides)
            if keep:
                leaving.callback(session.note, f"the chat goes on: ftctl chat {job.id}, or ftctl cancel {job.id}")
            else:
                leaving.callback(_cancel, client, job)
        try:
            _until_running(client, job)
        except KeyboardInterrupt:
            raise typer.Exit(exits.INTERRUPTED) from None
        yield job


def _kept(client: Client, name: str) -> Job | None:
    if "@checkpoint-" in name:
        return None
    job = client.get(session.last(client, name))
    talks = job.resolved is not None and job.resolved.WhichOneof("stage") == "chat"
    return job if talks and not job.state.finished else None


def _submit(client: Client, name: str, overrides: list[str]) -> Job:
    found = uses.read(client, name, "chat", None, overrides)
    if found.problems:
        spec.give_up(found, spec.ask(client, found))
    try:
        return client.submit(found.spec)
    except InvalidSpec as error:
        spec.give_up(found, error.violations, client.plan(found.spec).fixes)


def _until_running(client: Client, job: Job) -> None:
    """Says what the chat waits for. Raises JobFailed, JobCancelled."""
    said = ""

    def runs(seen: Job) -> bool:
        nonlocal said
        told = f"chat {seen.id}: {seen.state}"
        if told != said and sys.stderr.isatty():
            session.note(told, dim=True)
        said = told
        return seen.state == "running"

    client.wait(job, until=runs)


def _cancel(client: Client, job: Job) -> None:
    try:
        client.cancel(job)
    except FtError as error:
        session.note(f"chat {job.id} is not cancelled: {error}")


@dataclass(slots=True)
class Conversation:
    """Turns with one job, with its adapter or without it, or `both`."""

    client: Client
    job: str
    system: str
    options: Mapping[str, Any]
    both: bool
    base: bool = False
    turns: list[tuple[str, str]] = field(default_factory=list)

    def hold(self) -> None:
        """Asks and answers until there is nothing more to ask."""
        typed = sys.stdin.isatty()
        if typed:
            session.note(_HELP, dim=True)
        while (line := self._next(typed=typed)) is not None:
            match line.strip():
                case "":
                    continue
                case "/quit":
                    return
                case "/reset":
                    self.turns.clear()
                case "/base":
                    self.base = not self.base
                    session.note("without the adapter" if self.base else "with the adapter", dim=True)
                case text if text.startswith("/"):
                    session.note(f"{text.split()[0]} is not known; {_HELP}")
                case text:
                    self._turn(text, typed=typed)

    def _next(self, *, typed: bool) -> str | None:
        """The next line, None at the end of the input or when whoever types leaves."""
        try:
            if typed:
                typer.secho("> ", bold=True, nl=False, err=True)
            return sys.stdin.readline() or None
        except KeyboardInterrupt:
            if not typed:
                raise
            session.note()
            return None

    def _turn(self, text: str, *, typed: bool) -> None:
        self.turns.append(("user", text))
        try:
            said = ""
            for base in (True, False) if self.both else (self.base,):
                if self.both:
                    output.line("base:" if base else "tuned:")
                said = self._answer(base=base, typed=typed)
        except InvalidRequest as error:
            # The conversation is as it was before, and may go on.
            self.turns.pop()
            if not typed:
                raise
            session.report(error)
        else:
            self.turns.append(("assistant", said))

    def _answer(self, *, base: bool, typed: bool) -> str:
        """Prints an answer as it comes; Ctrl-C ends it, and what was said until then counts."""
        said = ""
        system = [("system", self.system)] if self.system else []
        answer = self.client.generate(self.job, [*system, *self.turns], base=base, **self.options)
        try:
            with closing(answer):
                for part in answer:
                    said += part.text or ""
                    sys.stdout.write(part.text or "")
                    output.flush()
                    if part.end and part.end.reason == "length":
                        session.note(f" [cut after {part.end.new_tokens} tokens]", dim=True)
        except KeyboardInterrupt:
            if not typed:
                raise
            session.note(" [ended]", dim=True)
        output.line()
        output.flush()
        return said
