"""Commands about where the daemon is: context, login, config. They change a file of the user's, shared with the SDK.

A token is never an argument, where other users and the shell's history would see it, and never printed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.errors import ContextError
from ftctl import output, session
from ftctl.text import NOTHING

if TYPE_CHECKING:
    from ftclient.contexts import Context

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the context.")]
_SHOWN = ("address", "tls", "ca", "cert", "key")
# A certificate and its key come and go together: `context add` takes both.
_CHANGEABLE = ("address", "tls", "ca")
_TRUTHS = {"true": True, "false": False}

context_app = typer.Typer(no_args_is_help=True, help="Name the daemons that are used from here.")
config_app = typer.Typer(no_args_is_help=True, help="Show and change how a context's daemon is reached.")


@context_app.command("list")
def list_() -> None:
    """List the contexts; * marks the one that is used."""
    from ftclient import contexts

    known = contexts.load()
    rows = [
        ["*" if name == known.current else "", name, each.address, _tls(each), "yes" if each.token else NOTHING]
        for name, each in sorted(known.by_name.items())
    ]
    if rows:
        output.table(["", "NAME", "ADDRESS", "TLS", "TOKEN"], rows)
    else:
        session.note("no context; `ftctl context add NAME ADDRESS` makes one")


@context_app.command()
def use(name: Name) -> None:
    """Use a context where nothing else is said."""
    from ftclient import contexts

    contexts.save(contexts.load().using(name))
    output.line(name)


@context_app.command()
def add(
    name: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="HOST:PORT, or the path of a socket.")],
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS, by the system's authorities.")] = False,
    ca: Annotated[str, typer.Option(metavar="FILE", help="The authority that vouches for the daemon; gives TLS.")] = "",
    cert: Annotated[str, typer.Option(metavar="FILE", help="Who you are, for a daemon that asks; with --key.")] = "",
    key: Annotated[str, typer.Option(metavar="FILE", help="The key of --cert.")] = "",
) -> None:
    """Add a context, or replace one; the first one is used from then on."""
    from ftclient.contexts import Context

    _keep(name, Context(address, tls=tls, ca=ca, cert=cert, key=key))
    output.line(name)


@context_app.command()
def remove(name: Name) -> None:
    """Forget a context, and its token."""
    from ftclient import contexts

    contexts.save(contexts.load().removing(name))
    output.line(name)


@config_app.command()
def get(
    setting: Annotated[str | None, typer.Argument(metavar="[SETTING]", help=f"{', '.join(_SHOWN)}.")] = None,
) -> None:
    """Show the settings of the context that is used, or one of them."""
    _, context = _current()
    values = {name: _shown(value) for name, value in asdict(context).items() if name in _SHOWN}
    if setting is None:
        output.fields(*values.items())
    else:
        output.line(values[_known(setting, _SHOWN)])


@config_app.command("set")
def set_(
    setting: Annotated[str, typer.Argument(metavar="SETTING", help=f"{', '.join(_CHANGEABLE)}.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="'' takes it away.")],
) -> None:
    """Change a setting of the context that is used. Tokens are for `ftctl login`."""
    name, context = _current()
    if _known(setting, _CHANGEABLE) == "tls" and value not in _TRUTHS:
        raise typer.BadParameter(f"tls {value}: accepted: true or false")
    if setting == "address":
        # The token was given for the daemon that was there.
        context = replace(context, token="")
    change: dict[str, Any] = {setting: _TRUTHS[value] if setting == "tls" else value}
    _keep(name, replace(context, **change))


def login() -> None:
    """Keep a token for the context that is used, once the daemon has taken it; read from standard input."""
    name, context = _current()
    prompt = sys.stdin.isatty()
    token = typer.prompt("Token", hide_input=True, err=True) if prompt else sys.stdin.readline().strip()
    if not token:
        raise ContextError("no token was given", advice="type it, or pipe it: ftctl login < token-file")
    from ftclient import Client

    with Client(context=name, token=token) as client:
        client.host()
    _keep(name, replace(context, token=token))
    output.line(f"logged in to {name}")


def _keep(name: str, context: Context) -> None:
    """Saves the context if it can be used as it is."""
    from ftclient import contexts

    if bool(context.cert) != bool(context.key):
        raise ContextError("cert and key go together", advice="give both, or none")
    # In the file a relative path would start at the file's folder.
    ca, cert, key = (
        str(Path(file).expanduser().absolute()) if file else "" for file in (context.ca, context.cert, context.key)
    )
    contexts.save(contexts.load().adding(name, replace(context, ca=ca, cert=cert, key=key)))


def _current() -> tuple[str, Context]:
    from ftclient import contexts

    known = contexts.load()
    name = session.settings.context or known.current
    if not name:
        raise ContextError("no context is used", advice="`ftctl context add NAME ADDRESS` makes one, and uses it")
    return name, known.get(name)


def _known(setting: str, accepted: tuple[str, ...]) -> str:
    if setting not in accepted:
        raise typer.BadParameter(f"{setting}: accepted: {', '.join(accepted)}")
    return setting


def _shown(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _tls(context: Context) -> str:
    return "yes" if context.tls or context.ca or context.cert else NOTHING
