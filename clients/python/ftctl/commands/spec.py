"""Commands about a spec: submit, clone, validate, plan. Problems of the file and of the daemon are shown together."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ftclient import units
from ftclient.errors import FtError, InvalidSpec, Problem, SpecFileError, Unavailable
from ftctl import exits, output, session
from ftctl.commands import streams
from ftctl.commands.jobs import JobArgument
from ftctl.output import Format
from ftctl.show import plan as show
from ftctl.show.devices import label as device_label

if TYPE_CHECKING:
    from finetuned.v1.job_pb2 import JobSpec
    from ftclient import Client, Job
    from ftclient.results import Fix, Violation
    from ftclient.specfile import SpecFile

File = Annotated[str, typer.Option("-f", "--file", metavar="FILE", help="The spec, a YAML file; - is standard input.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="e.g. schedule.max_steps=20; may be repeated."),
]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="The job's name.")]
Labels = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A label; may be repeated.")]
RequestId = Annotated[str | None, typer.Option(metavar="ID", help="The same id makes the same job, once.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code as of `ftctl wait`.")]
Follow = Annotated[bool, typer.Option("--follow", help="Watch it live; exit code as of `ftctl wait`.")]
Hold = Annotated[bool, typer.Option("--hold", help="Do not start it until `ftctl release`.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the job's id only.")]
Form = Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML, Format.NAME)]
# Of one job alone: a time to come may be past when it is submitted again, its caller knows it by its id, and who asks
# for it again wants it to start.
_ONCE = ("not_before", "deadline", "external_id", "hold")


def submit(
    file: File,
    overrides: Overrides = None,
    name: Name = None,
    label: Labels = None,
    request_id: RequestId = None,
    wait: Wait = False,
    follow: Follow = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the daemon what it would do; make no job.")] = False,
    hold: Hold = False,
    priority: Annotated[int | None, typer.Option(metavar="N", min=-100, max=100, help="Higher starts first.")] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(metavar="JOB[:any]", help="Start when it has succeeded (any: ended); may be repeated."),
    ] = None,
    not_before: Annotated[str | None, typer.Option(metavar="TIME", help="Do not start before, e.g. 'in 2h'.")] = None,
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help="Stop it then if it has not ended.")] = None,
    quiet: Quiet = False,
    form: Form = Format.TABLE,
) -> None:
    """Queue a job."""
    found = read(file, overrides)
    describe(found.spec, name, label or [], priority, hold=hold)
    _arrange(found.spec, after or [], not_before, deadline)
    if dry_run:
        _plan(found, form)
        return
    with session.connect() as client:
        queue(client, found, request_id, wait=wait, follow=follow, form=Format.NAME if quiet else form)


def clone(
    job: JobArgument,
    overrides: Overrides = None,
    name: Name = None,
    label: Labels = None,
    request_id: RequestId = None,
    wait: Wait = False,
    follow: Follow = False,
    hold: Hold = False,
    quiet: Quiet = False,
    form: Form = Format.TABLE,
) -> None:
    """Queue a job's spec again, changed by --set.

    Its start time, deadline, external id and hold are of that one job: they are not taken over.
    """
    with session.connect() as client:
        original = client.get(session.last(client, job))
        found = read_again(original, overrides)
        describe(found.spec, name, label or [], None, hold=hold)
        queue(client, found, request_id, wait=wait, follow=follow, form=Format.NAME if quiet else form)


def queue(client: Client, found: SpecFile, request_id: str | None, *, wait: bool, follow: bool, form: Format) -> Job:
    """Submits a spec, says so in the given form, and with `wait` or `follow` stays until the job has ended."""
    if found.problems:
        give_up(found, ask(client, found))
    _name_last(client, found.spec)
    try:
        job = client.submit(found.spec, request_id=request_id)
    except InvalidSpec as error:
        give_up(found, error.violations, client.plan(found.spec).fixes)
    _say(job, form)
    if (wait or follow) and job.state == "paused":
        session.note(f"{job.id} is held: it starts after `ftctl release {job.id}`")
    if follow:
        streams.watch(job.id, exit_status=True)
    elif wait:
        with session.detachable(job.id):
            client.wait(job)
    elif form is Format.TABLE:
        session.note_field("next:", f"ftctl watch {job.id}")
    return job


def validate(file: File, overrides: Overrides = None) -> None:
    """Check a spec without making a job."""
    found = read(file, overrides)
    with session.connect() as client:
        violations = ask(client, found)
    if found.problems or violations:
        give_up(found, violations)
    output.line(f"{found.source}: valid")


def plan(
    file: File,
    overrides: Overrides = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Show what a submit would do: memory, time, where and when, and what to change if it does not fit.

    Exit code: 0 it could run, 1 the spec has problems, 6 no device of the host could ever hold it.
    """
    _plan(read(file, overrides), form)


def _plan(found: SpecFile, form: Format) -> None:
    with session.connect() as client:
        if found.problems:
            give_up(found, ask(client, found))
        _name_last(client, found.spec)
        planned = client.plan(found.spec)
        labels = {device.id: device_label(device) for device in client.host().devices}
    if planned.violations:
        give_up(found, planned.violations, planned.fixes)
    if form is Format.TABLE:
        show.plan(planned, labels)
    else:
        output.one(planned.proto, form)
    if planned.fixes:
        raise typer.Exit(exits.REFUSED)


def _say(job: Job, form: Format) -> None:
    if form is Format.NAME:
        output.line(job.id)
    elif form is Format.TABLE:
        output.line(f"{job.id}  {job.name}  {job.state}")
    else:
        output.one(job.proto, form)
    output.flush()


def read(file: str, overrides: Sequence[str] | None) -> SpecFile:
    """The file as far as it can be read. Exits if there is nothing that could be sent."""
    from ftclient.specfile import LARGEST

    source, base = ("<stdin>", Path.cwd()) if file == "-" else (file, Path(file).parent)
    try:
        with nullcontext(sys.stdin) if file == "-" else Path(file).open() as opened:
            # One more than is accepted: what is larger is refused, and never read whole.
            text = opened.read(LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FtError(
            f"cannot read {file}", why=str(reason), advice="give a YAML file with -f, or pipe one to -f -"
        ) from error
    return parse(text, overrides, source, base)


def read_again(job: Job, overrides: Sequence[str] | None) -> SpecFile:
    """The spec that a job was submitted with, changed by `overrides`."""
    from io import StringIO

    from ftclient.specfile import values_of

    values = {key: value for key, value in values_of(job.proto.spec).items() if key not in _ONCE}
    written = StringIO()
    output.yaml(values, written)
    return parse(written.getvalue(), overrides, f"<spec of {job.id}>", Path.cwd())


def parse(text: str, overrides: Sequence[str] | None, source: str, base: Path) -> SpecFile:
    """The spec in a text, as far as it can be read. Exits if there is nothing that could be sent."""
    from ftclient import specfile

    try:
        return specfile.read(text, overrides or (), source=source, base=base)
    except SpecFileError as error:
        _print_problems(error.source, error.problems)
        raise typer.Exit(exits.FAILED) from error


def describe(spec: JobSpec, name: str | None, labels: Sequence[str], priority: int | None, *, hold: bool) -> None:
    """What the command line says about the job itself outranks the file."""
    if name is not None:
        spec.name = name
    if priority is not None:
        spec.priority = priority
    if hold:
        spec.hold = True
    for label in labels:
        key, equals, value = label.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--label {label}: expected KEY=VALUE")
        spec.labels[key] = value


def _arrange(spec: JobSpec, after: Sequence[str], not_before: str | None, deadline: str | None) -> None:
    """What the command line says about when it runs: times outrank the file's, jobs to come after are added."""
    from finetuned.v1.job_pb2 import DependencyCondition
    from ftclient.fields import short_names

    conditions = short_names(DependencyCondition.DESCRIPTOR)
    for given in after:
        job, colon, condition = given.partition(":")
        if not job or (colon and condition not in conditions):
            raise typer.BadParameter(f"--after {given}: expected JOB or JOB:{', JOB:'.join(conditions)}")
        spec.after.add(job=job, **({"condition": conditions[condition]} if colon else {}))
    now = datetime.now(UTC)
    for name, text in (("not_before", not_before), ("deadline", deadline)):
        if text is None:
            continue
        try:
            getattr(spec, name).FromDatetime(units.time(text, now))
        except ValueError as error:
            raise typer.BadParameter(f"--{name.replace('_', '-')}: {error}") from error


def _name_last(client: Client, spec: JobSpec) -> None:
    for each in spec.after:
        each.job = session.last(client, each.job)


def ask(client: Client, found: SpecFile) -> Sequence[Violation]:
    """What the daemon finds wrong with the part of the spec that could be read."""
    try:
        return client.plan(found.spec).violations
    except Unavailable as error:
        if not found.problems:
            raise
        session.note(f"only the file was checked: {error}")
        return ()


def give_up(found: SpecFile, violations: Sequence[Violation], fixes: Sequence[Fix] = ()) -> NoReturn:
    """Prints all problems, the file's first, and what would make it fit; a field wrong in the file is told of once."""
    wrong = {_plain(problem.field) for problem in found.problems}
    problems = list(found.problems)
    for violation in violations:
        field = violation.field.removeprefix("training.")
        if _plain(field) not in wrong:
            problems.append(Problem(field, violation.description, found.line_of(violation.field)))
    _print_problems(found.source, problems)
    show.fixes(fixes)
    raise typer.Exit(exits.REFUSED if fixes else exits.FAILED)


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
    check = "try again" if source.startswith("<") else f"check with `ftctl validate -f {source}`"
    session.note_field("next:", f"correct {'it' if count == 1 else 'them'}, then {check}")
