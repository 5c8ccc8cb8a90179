"""Commands about jobs: list, show and explain them, move them in the queue, and end them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.errors import NotFound, Unavailable
from ftctl import output, session
from ftctl.commands import completion
from ftctl.output import Format
from ftctl.show import explain as show_explain
from ftctl.show import jobs as show
from ftctl.show import listing
from ftctl.show import schema as show_schema

if TYPE_CHECKING:
    from ftclient import Client, Job

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Id, prefix of an id, name, or @last.", autocompletion=completion.jobs)
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB...", help="Ids, prefixes, names, or @last.", autocompletion=completion.jobs),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")]
SELECTOR_HELP = "Only with such labels, e.g. 'team=cx,stage!=test,size in (s,m),owner,!draft'."
Selector = Annotated[list[str] | None, typer.Option("-l", "--selector", metavar="SELECTOR", help=SELECTOR_HELP)]
States = Annotated[list[str] | None, typer.Option(help="Only in this state, e.g. running; may be repeated.")]
Project = Annotated[str, typer.Option(help="Only of this project.")]


def get(
    what: Annotated[list[str] | None, typer.Argument(metavar="[jobs | [job] JOB...]", help="Default: jobs.")] = None,
    selector: Selector = None,
    state: States = None,
    project: Project = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many jobs.")] = 50,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on with every change; json is a line each.")] = False,
    quiet: Quiet = False,
    form: Annotated[
        Format,
        output.option(Format.TABLE, Format.WIDE, Format.JSON, Format.YAML, Format.NAME, Format.JSONL, Format.CSV),
    ] = Format.TABLE,
) -> None:
    """List jobs, newest first, or show one."""
    names = what or ["jobs"]
    names = names[1:] if names[0] in ("job", "jobs") else names
    form = Format.NAME if quiet else form
    with session.connect() as client:
        fetch: Callable[[], Iterator[Job]] = partial(
            client.list, states=read_states(state), selector=",".join(selector or []), project=project
        )
        if names:
            fetch = partial(map, client.get, [session.last(client, name) for name in names])
        if watch:
            listing.follow(lambda: list(islice(fetch(), limit)), form, to_end=bool(names))
            return
        found = list(islice(fetch(), limit + 1))
    if len(names) == 1 and form in (Format.JSON, Format.YAML):
        output.one(found[0].proto, form)
        return
    _print(found[:limit], form)
    if len(found) > limit:
        session.note(f"there are more than {limit}; --limit shows more")


def describe(
    job: JobArgument, form: Annotated[Format, output.option(Format.TABLE, Format.YAML)] = Format.TABLE
) -> None:
    """Show all that is known of a job, from its history to its spec.

    With -o yaml its spec alone, as it was submitted: a file to submit again, here or elsewhere.
    """
    with session.connect() as client:
        found = client.get(session.last(client, job))
        if form is Format.YAML:
            from ftclient.specfile import values_of

            output.yaml(values_of(found.proto.spec))
        else:
            show.job(found, client.artifacts(found))


def explain(
    what: Annotated[
        str | None, typer.Argument(metavar="[JOB | FIELD]", help="A job, or a field of a spec, e.g. lora.rank.")
    ] = None,
    form: Annotated[Format, output.option(Format.TABLE, Format.JSON, Format.YAML)] = Format.TABLE,
) -> None:
    """Show why a job is where it is, and when it will start; or what the fields of a spec mean."""
    if what is None:
        show_schema.top()
        return
    try:
        with session.connect() as client:
            found = client.explain(session.last(client, what))
    except (NotFound, Unavailable) as error:
        show_schema.instead(what, error)
        return
    if form is Format.TABLE:
        show_explain.explanation(found)
    else:
        output.one(found.proto, form)


def cancel(
    jobs: JobsArgument,
    save: Annotated[bool, typer.Option("--save", help="Save a checkpoint at the step it stops at.")] = False,
    quiet: Quiet = False,
) -> None:
    """End a job; a running one stops at its next step."""
    _each(jobs, lambda client, job: client.cancel(job, save=save), quiet=quiet)


def save(job: JobArgument, quiet: Quiet = False) -> None:
    """Save a checkpoint of a running job now, and go on."""
    from ftclient import FtError
    from ftclient.events import CheckpointSaved

    with session.connect() as client:
        asked = client.get(session.last(client, job))
        client.save(asked)
        after = asked.progress.last_seq if asked.progress else 0
        kinds = (event.kind for event in client.metrics(asked, after_seq=after))
        saved = next((kind for kind in kinds if isinstance(kind, CheckpointSaved)), None)
    if saved is None:
        raise FtError(f"job {asked.id} ended before it had saved; ftctl describe {asked.id} shows what it left")
    output.line(saved.name if quiet else f"{asked.id}  {asked.name}  {saved.name} saved")


def stop(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """End a running job at its next step and keep what it has learned as its output."""
    _each(jobs, lambda client, job: client.stop(job), quiet=quiet)


def pause(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """Save a checkpoint, give the devices back, hold the job."""
    _each(jobs, lambda client, job: client.pause(job), quiet=quiet)


def resume(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """Queue a paused job again, from its checkpoint."""
    _each(jobs, lambda client, job: client.resume(job), quiet=quiet)


def hold(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """Keep waiting jobs from starting; refused if one runs."""
    _each(jobs, lambda client, job: client.hold(job), quiet=quiet)


def release(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """End a hold."""
    _each(jobs, lambda client, job: client.release(job), quiet=quiet)


def priority(
    job: JobArgument,
    value: Annotated[int, typer.Argument(metavar="N", min=-100, max=100, help="Higher starts first.")],
    quiet: Quiet = False,
) -> None:
    """Set a job's priority, -100 to 100."""
    with session.connect() as client:
        changed = client.update(session.last(client, job), priority=value)
    output.line(changed.id if quiet else f"{changed.id}  {changed.name}  priority {changed.priority}")


def front(
    jobs: JobsArgument,
    no: Annotated[bool, typer.Option("--no", help="Take it back to its own place.")] = False,
    quiet: Quiet = False,
) -> None:
    """Move jobs before all others of their priority."""
    with session.connect() as client:
        for name in jobs:
            changed = client.update(session.last(client, name), front=not no)
            place = "at the front" if changed.front else "at its own place"
            output.line(changed.id if quiet else f"{changed.id}  {changed.name}  {place}")


def retry(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """Queue a failed or cancelled job again, from its checkpoint."""
    _each(jobs, lambda client, job: client.retry(job), quiet=quiet)


def delete(jobs: JobsArgument, quiet: Quiet = False) -> None:
    """Forget a job that has ended; its run directory and output go too."""
    with session.connect() as client:
        for name in jobs:
            found = client.get(session.last(client, name))
            client.delete(found)
            output.line(found.id if quiet else f"{found.id}  {found.name}  deleted")


def _each(jobs: list[str], change: Callable[[Client, str], Job], *, quiet: bool) -> None:
    with session.connect() as client:
        for name in jobs:
            changed = change(client, session.last(client, name))
            output.line(changed.id if quiet else f"{changed.id}  {changed.name}  {changed.state}")


def _print(jobs: Sequence[Job], form: Format) -> None:
    if form is Format.NAME:
        for job in jobs:
            output.line(job.id)
    elif form in (Format.JSON, Format.YAML, Format.JSONL):
        output.many((job.proto for job in jobs), form)
    else:
        show.jobs(jobs, form)


def read_states(given: list[str] | None) -> list[Any]:
    """The states that --state names."""
    from ftclient import JobState

    known = [state for state in JobState if state is not JobState.UNKNOWN]
    for state in given or []:
        if state.lower() not in known:
            raise typer.BadParameter(f"--state {state}: accepted: {', '.join(known)}")
    return [JobState(state.lower()) for state in given or []]
