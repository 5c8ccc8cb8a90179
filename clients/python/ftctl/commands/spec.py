"""Commands about a spec file: submit, validate, plan. Problems of the file and of the daemon are shown together."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ftclient.errors import FtError, InvalidSpec, Problem, SpecFileError, Unavailable
from ftctl import exits, output, session, show
from ftctl.commands import streams
from ftctl.output import Format

if TYPE_CHECKING:
    from ftclient import Client, Job
    from ftclient.results import Violation
    from ftclient.specfile import SpecFile

File = Annotated[str, typer.Option("-f", "--file", metavar="FILE", help="The spec, a YAML file; - is standard input.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="e.g. schedule.max_steps=20; may be repeated."),
]


def submit(
    file: File,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The job's name.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")] = None,
    request_id: Annotated[str | None, typer.Option(metavar="ID", help="The same id makes the same job, once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code as of `ftctl wait`.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Watch it live; exit code as of `ftctl wait`.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the daemon what it would do; make no job.")] = False,
    hold: Annotated[bool, typer.Option("--hold", help="Do not start it until `ftctl resume`.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print the job's id only.")] = False,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML, Format.NAME)] = Format.TABLE,
) -> None:
    """Queue a job."""
    found = _read(file, overrides)
    _describe(found, name, label or [], hold=hold)
    if dry_run:
        _plan(found, form)
        return
    with session.connect() as client:
        if found.problems:
            _give_up(found, _ask(client, found))
        try:
            job = client.submit(found.spec, request_id=request_id)
        except InvalidSpec as error:
            _give_up(found, error.violations)
        _say(job, Format.NAME if quiet else form)
        if follow:
            streams.watch(job.id, exit_status=True)
        elif wait:
            with session.detachable(job.id):
                client.wait(job)
        elif not quiet and form is Format.TABLE:
            session.note_field("next:", f"ftctl watch {job.id}")


def validate(file: File, overrides: Overrides = None) -> None:
    """Check a spec without making a job."""
    found = _read(file, overrides)
    with session.connect() as client:
        violations = _ask(client, found)
    if found.problems or violations:
        _give_up(found, violations)
    output.line(f"{found.source}: valid")


def plan(
    file: File,
    overrides: Overrides = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Show what a submit would do: memory, devices, why it would wait."""
    _plan(_read(file, overrides), form)


def _plan(found: SpecFile, form: Format) -> None:
    with session.connect() as client:
        if found.problems:
            _give_up(found, _ask(client, found))
        planned = client.plan(found.spec)
    if planned.violations:
        _give_up(found, planned.violations)
    if form is Format.TABLE:
        show.plan(planned)
    else:
        output.one(planned.proto, form)


def _say(job: Job, form: Format) -> None:
    if form is Format.NAME:
        output.line(job.id)
    elif form is Format.TABLE:
        output.line(f"{job.id}  {job.name}  {job.state}")
    else:
        output.one(job.proto, form)
    output.flush()


def _read(file: str, overrides: Sequence[str] | None) -> SpecFile:
    """The file as far as it can be read. Exits if there is nothing that could be sent."""
    from ftclient import specfile

    source, base = ("<stdin>", Path.cwd()) if file == "-" else (file, Path(file).parent)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FtError(
            f"cannot read {file}", why=str(reason), advice="give a YAML file with -f, or pipe one to -f -"
        ) from error
    try:
        return specfile.read(text, overrides or (), source=source, base=base)
    except SpecFileError as error:
        _print_problems(error.source, error.problems)
        raise typer.Exit(exits.FAILED) from error


def _describe(found: SpecFile, name: str | None, labels: Sequence[str], *, hold: bool) -> None:
    """What the command line says about the job itself outranks the file."""
    if name is not None:
        found.spec.name = name
    if hold:
        found.spec.hold = True
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--label {label}: expected KEY=VALUE")
        found.spec.labels[key] = value


def _ask(client: Client, found: SpecFile) -> Sequence[Violation]:
    """What the daemon finds wrong with the part of the spec that could be read."""
    try:
        return client.plan(found.spec).violations
    except Unavailable as error:
        if not found.problems:
            raise
        session.note(f"only the file was checked: {error}")
        return ()


def _give_up(found: SpecFile, violations: Sequence[Violation]) -> NoReturn:
    """Prints all problems, the file's first, and exits. A field that the file has wrong is not complained of twice."""
    wrong = {_plain(problem.field) for problem in found.problems}
    problems = list(found.problems)
    for violation in violations:
        field = violation.field.removeprefix("training.")
        if _plain(field) not in wrong:
            problems.append(Problem(field, violation.description, found.line_of(violation.field)))
    _print_problems(found.source, problems)
    raise typer.Exit(exits.FAILED)


def _plain(field: str) -> str:
    return re.sub(r"[\[.](\d+)\]?", r".\1", field)


def _print_problems(source: str, problems: Sequence[Problem]) -> None:
    count = len(problems)
    heading = f"{source} has {count} problem{'s' if count != 1 else ''}"
    typer.echo(typer.style("error:", fg="red", bold=True) + f" {heading}", err=True)
    for problem in problems:
        place = f"{source}:{problem.line}: " if problem.line else f"{source}: "
        field = typer.style(problem.field, bold=True) + ": " if problem.field else ""
        typer.echo(f"  {place}{field}{problem.description}", err=True)
    session.note_field(
        "next:", f"correct {'it' if count == 1 else 'them'}, then check with `ftctl validate -f {source}`"
    )
