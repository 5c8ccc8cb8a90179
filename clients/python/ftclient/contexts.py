"""Where the daemon is and how to speak to it: named contexts in a file of the user's, and what the environment says.

    current = "gpu1"

    [contexts.gpu1]
    address = "gpu1.example.com:7447"
    token = "…"                  # or FTD_TOKEN
    ca = "/etc/finetuned/ca.pem"  # gives TLS, as does `tls = true` with the system's authorities
    cert = "me.pem"               # who the client is, with its key
    key = "me.key"

`ftctl` and the SDK read the same file. A token goes to the address it was written for and nowhere else. Nothing here
knows gRPC, and nothing here connects.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path

from ftclient.errors import ContextError


@dataclass(frozen=True, slots=True)
class Context:
    """One daemon. `ca`, `cert` and `key` are paths of PEM files; relative ones start at the folder of the file."""

    address: str
    token: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts by name, and which of them is used where nothing else is said; "" is none of them."""

    current: str = ""
    by_name: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """The context of that name. Raises ContextError that says which there are."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none"
            raise ContextError(f"there is no context {name!r}; there is: {known}", advice=_LIST)
        return self.by_name[name]

    def adding(self, name: str, context: Context) -> Contexts:
        """With this context in addition, or in place of the one of that name; the first one becomes the current."""
        return replace(self, current=self.current or name, by_name={**self.by_name, name: context})

    def removing(self, name: str) -> Contexts:
        """Without the context of that name; if it was the current one, none is. Raises ContextError."""
        self.get(name)
        rest = {other: context for other, context in self.by_name.items() if other != name}
        return Contexts("" if self.current == name else self.current, rest)

    def using(self, name: str) -> Contexts:
        """With that one as the current. Raises ContextError."""
        self.get(name)
        return replace(self, current=name)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: the first of `addresses` that answers, as `context` says; `origin` is who said so."""

    addresses: tuple[str, ...]
    context: Context
    origin: str

    @property
    def secure(self) -> bool:
        """Whether to speak TLS."""
        return self.context.tls or bool(self.context.ca or self.context.cert)


_LIST = "`ftctl context list` shows them; `ftctl context add NAME ADDRESS` makes one"
_FIELDS = {each.name: bool if each.name == "tls" else str for each in fields(Context)}


def file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the contexts are kept."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".config")
    return Path(home) / "finetuned" / "contexts.toml"


def load(path: Path | None = None) -> Contexts:
    """The contexts in the file, none if there is no file. Raises ContextError."""
    path = path or file()
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContextError(f"{path}: {error}", advice="mend the file, or remove it and add the contexts anew") from None
    current, tables = document.pop("current", ""), document.pop("contexts", {})
    if document or not isinstance(current, str) or not isinstance(tables, dict):
        unknown = ", ".join(document) or "their types"
        raise ContextError(f"{path}: accepted are `current` and tables `contexts.NAME`; wrong: {unknown}")
    return Contexts(current, {name: _context(path, name, table) for name, table in tables.items()})


def save(contexts: Contexts, path: Path | None = None) -> None:
    """Writes the file whole or not at all, for its owner only: it may have tokens."""
    path = path or file()
    lines = [f"current = {_text(contexts.current)}"] if contexts.current else []
    for name, context in contexts.by_name.items():
        lines += ["", f"[contexts.{_text(name)}]"]
        lines += [f"{key} = {_text(value)}" for key, value in asdict(context).items() if value or key == "address"]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write("\n".join(lines).lstrip("\n") + "\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ContextError(f"{path}: cannot be written: {error.strerror}") from None


def target(
    address: str | None = None,
    *,
    context: str | None = None,
    token: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Where to connect: to `address`, else `context`, FTD_ADDRESS, FTD_CONTEXT, the current context, a default socket.

    A `token`, or FTD_TOKEN, takes the place of a context's. Raises ContextError.
    """
    found = _target(address, context, environ)
    given = token if token is not None else environ.get("FTD_TOKEN")
    if given is not None:
        found = replace(found, context=replace(found.context, token=given))
    if found.context.token and not (found.secure or all(map(_stays_here, found.addresses))):
        raise ContextError(
            f"a token would go in the clear to {found.addresses[0]}",
            advice="give its context `tls = true` or a `ca`, or leave the token away",
        )
    return found


def default_addresses(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The sockets that a daemon makes by default, the user's own first."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    state = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    sockets = [f"{runtime}/finetuned/ftd.sock"] if runtime else []
    return (*(f"unix:{path}" for path in (*sockets, f"{state}/finetuned/ftd.sock", "/run/finetuned/ftd.sock")),)


def _target(address: str | None, context: str | None, environ: Mapping[str, str]) -> Target:
    if address:
        return Target((_uri(address),), Context(address), "the address given")
    if not context and (named := environ.get("FTD_ADDRESS")):
        return Target((_uri(named),), Context(named), "FTD_ADDRESS")
    contexts = load(file(environ))
    name = context or environ.get("FTD_CONTEXT") or contexts.current
    if name:
        chosen = contexts.get(name)
        return Target((_uri(chosen.address),), chosen, f"context {name}")
    return Target(default_addresses(environ), Context(""), "the default sockets")


def _context(path: Path, name: str, table: object) -> Context:
    if not isinstance(table, dict) or not table.get("address"):
        raise ContextError(f"{path}: contexts.{name} has no address")
    for key, value in table.items():
        kind = _FIELDS.get(key)
        if kind is None:
            raise ContextError(f"{path}: contexts.{name}.{key} is unknown; accepted: {', '.join(_FIELDS)}")
        if not isinstance(value, kind):
            raise ContextError(
                f"{path}: contexts.{name}.{key} is to be {'true or false' if kind is bool else 'a text'}"
            )
    files = {key: str(path.parent / Path(table[key]).expanduser()) for key in ("ca", "cert", "key") if table.get(key)}
    made = Context(**{**table, **files})
    if bool(made.cert) != bool(made.key):
        raise ContextError(f"{path}: contexts.{name} has one of cert and key; they go together")
    return made


def _uri(address: str) -> str:
    return f"unix:{address}" if address.startswith("/") else address


def _stays_here(address: str) -> bool:
    """Whether what is sent there leaves this machine: a socket in the file system, or a loopback address."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text(value: str | bool) -> str:
    # A JSON string or truth value is one of TOML's, but for the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
