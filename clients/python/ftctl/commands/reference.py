"""Commands about specs in general: schema and init. They need no daemon."""

from __future__ import annotations

from typing import Annotated

import typer

from ftctl import output, starts
from ftctl.show import schema as show


def schema(
    json_schema: Annotated[bool, typer.Option("--json-schema", help="As JSON Schema, for editors.")] = False,
) -> None:
    """Print every field of a spec, what it takes and means; `ftctl explain FIELD` tells of one."""
    from ftclient import schema as fields

    if json_schema:
        output.document(fields.json_schema())
    else:
        show.table(fields.fields())


def init(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"{', '.join(starts.KINDS)}.")] = "lora",
) -> None:
    """Print a spec to start from."""
    if kind not in starts.KINDS:
        raise typer.BadParameter(f"{kind}: accepted: {', '.join(starts.KINDS)}")
    output.line(starts.spec(kind).rstrip())
