"""Commands that use what a job has left, in a job of its own: eval and export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftctl import output, session
from ftctl.commands import completion, spec
from ftctl.output import Format

if TYPE_CHECKING:
    from ftclient import Client, Job
    from ftclient.specfile import SpecFile

_CHECKPOINT = re.compile(r"(.+)@(checkpoint-\d+)")
Model = Annotated[
    str,
    typer.Argument(
        metavar="JOB[@CHECKPOINT]",
        help="Id, prefix of an id, name, or @last; with @checkpoint-200 not its output, but that.",
        autocompletion=completion.jobs,
    ),
]
File = Annotated[
    str | None,
    typer.Option("-f", "--file", metavar="FILE", help="A spec with what is not given here; - is standard input."),
]


def evaluate(
    job: Model,
    file: File = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Rows to evaluate on, on the daemon's host; may be repeated."),
    ] = None,
    overrides: spec.Overrides = None,
    name: spec.Name = None,
    label: spec.Labels = None,
    request_id: spec.RequestId = None,
    wait: spec.Wait = False,
    follow: spec.Follow = False,
    hold: spec.Hold = False,
    quiet: spec.Quiet = False,
    form: spec.Form = Format.TABLE,
) -> None:
    """Evaluate a job's model on rows, in a job of its own.

    With --wait or --follow its figures are printed at the end.
    """
    rows = [f"data.eval.{index}.path={path}" for index, path in enumerate(data or [])]
    form = Format.NAME if quiet else form
    with session.connect() as client:
        found = read(client, job, "evaluate", file, [*rows, *(overrides or [])])
        spec.describe(found.spec, name, label or [], None, hold=hold)
        made = spec.queue(client, found, request_id, wait=wait, follow=follow, form=form)
        if (wait or follow) and form is Format.TABLE:
            _print_figures(client, made)


def export(
    job: Model,
    file: File = None,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder to make on the daemon's host. Default: its output.")
    ] = None,
    gguf: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT", help="Also a GGUF file: f32, f16, bf16 or q8_0; may be repeated."),
    ] = None,
    ollama: Annotated[bool, typer.Option("--ollama", help="Also a Modelfile for the first GGUF file.")] = False,
    overrides: spec.Overrides = None,
    name: spec.Name = None,
    label: spec.Labels = None,
    request_id: spec.RequestId = None,
    wait: spec.Wait = False,
    follow: spec.Follow = False,
    hold: spec.Hold = False,
    quiet: spec.Quiet = False,
    form: spec.Form = Format.TABLE,
) -> None:
    """Write a job's model as a whole, its adapter merged into it, in a job of its own."""
    given = [f"output.path={to}"] if to else []
    given += [f"output.gguf=[{', '.join(gguf)}]"] if gguf else []
    given += ["output.ollama=true"] if ollama else []
    with session.connect() as client:
        found = read(client, job, "export", file, [*given, *(overrides or [])])
        spec.describe(found.spec, name, label or [], None, hold=hold)
        spec.queue(client, found, request_id, wait=wait, follow=follow, form=Format.NAME if quiet else form)


def read(client: Client, job: str, stage: str, file: str | None, overrides: Sequence[str]) -> SpecFile:
    """The spec of a stage that uses the job's model: the file's, if there is one, with what the command line says."""
    named = _CHECKPOINT.fullmatch(job)
    model = [f"model.from_job={session.last(client, named[1] if named else job)}"]
    model += [f"model.checkpoint={named[2]}"] if named else []
    given = [f"{stage}={{}}", *model, *overrides]
    return spec.read(file, given) if file else spec.parse("{}", given, "<command line>", Path.cwd())


def _print_figures(client: Client, job: Job) -> None:
    from ftclient import EvaluationMetrics

    for event in client.metrics(job, follow=False):
        if isinstance(event.kind, EvaluationMetrics):
            figures = {"loss": event.kind.loss, **event.kind.extra}
            rows = [(name, f"{value:.6g}") for name, value in figures.items()]
            output.table(("FIGURE", "VALUE"), rows, right=(1,))
