"""The commands of `ftctl`, and the one place where an error becomes three lines and an exit code.

Nothing here imports grpc: `--help` stays fast. Each command connects when it runs.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]
from typer.core import TyperGroup
from typer.main import get_command_name

from ftclient.errors import FtError
from ftctl import exits, guide, session
from ftctl.commands import (
    artifacts,
    chat,
    compare,
    completion,
    contexts,
    data,
    events,
    health,
    host,
    import_,
    jobs,
    metrics,
    reference,
    spec,
    streams,
    top,
    uses,
)


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Runs one command; its errors are told here."""
        try:
            return super().invoke(ctx)
        except FtError as error:
            session.report(error)
            raise typer.Exit(exits.code_of(error)) from error
        except KeyboardInterrupt:
            raise typer.Exit(exits.INTERRUPTED) from None
        except BrokenPipeError:
            # Who reads us has enough, e.g. `| head`. What is buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(exits.OK) from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, by what they are about."""
        shown = {name: self.commands[name] for name in self.list_commands(ctx) if not self.commands[name].hidden}
        for title, names in guide.grouped(list(shown)):
            with formatter.section(title):
                # Two columns stand between a name and its text, which is cut where it would need a second line.
                room = formatter.width - formatter.current_indent - max(map(len, shown)) - 2
                formatter.write_dl([(name, shown[name].get_short_help_str(room)) for name in names])


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Submit fine-tuning jobs to the daemon, and follow them.\n\n"
    "JOB is an id, the beginning of one, a name that only one job has, or @last.",
)


@app.callback()
def _options(
    address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of the daemon: HOST:PORT, or unix:PATH. Default: FTD_ADDRESS."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A daemon by name; see `ftctl context`. Default: FTD_CONTEXT."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="With an error, show its trace and the request's id.")] = False,
) -> None:
    session.settings.address = address
    session.settings.context = context
    session.settings.debug = debug


app.command()(spec.submit)
app.command()(spec.validate)
app.command()(spec.plan)
app.command()(spec.clone)
app.command()(reference.init)
app.command()(reference.schema)
app.add_typer(data.app, name="data")
app.command("import")(import_.import_)
app.command()(jobs.get)
app.command()(jobs.describe)
app.command()(jobs.explain)
app.command()(streams.watch)
app.command()(streams.logs)
app.command()(metrics.metrics)
app.command()(compare.compare)
app.command("eval")(uses.evaluate)
app.command()(uses.export)
app.command()(chat.chat)
app.command()(streams.wait)
app.command()(events.events)
app.command()(artifacts.artifacts)
app.command()(artifacts.checkpoints)
app.command()(jobs.cancel)
app.command()(jobs.save)
app.command()(jobs.stop)
app.command()(jobs.pause)
app.command()(jobs.resume)
app.command()(jobs.hold)
app.command()(jobs.release)
# A negative priority is no option.
app.command(context_settings={"ignore_unknown_options": True})(jobs.priority)
app.command()(jobs.front)
app.command()(events.label)
app.command()(jobs.retry)
app.command()(jobs.delete)
app.command()(top.top)
app.command()(host.gpus)
app.command()(host.queue)
app.command()(host.quota)
app.command()(host.quarantine)
app.command("release-gpu")(host.release_gpu)
app.command()(health.version)
app.command()(health.doctor)
app.add_typer(contexts.context_app, name="context")
app.add_typer(contexts.config_app, name="config")
app.command()(contexts.login)
app.command()(completion.completion)
for same, command in guide.SAME_AS.items():
    app.command(same, hidden=True)(getattr(spec, command))


def _add_examples(group: typer.Typer, before: str = "") -> None:
    """To the help of each command, also of those inside other commands."""
    for each in group.registered_commands:
        name = each.name or get_command_name(getattr(each.callback, "__name__", ""))
        each.epilog = guide.epilog(f"{before}{name}")
    for inner in group.registered_groups:
        if inner.typer_instance:
            _add_examples(inner.typer_instance, f"{before}{inner.name} ")


_add_examples(app)
if completion.asked():
    completion_init()
