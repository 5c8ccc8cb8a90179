"""What the SDK offers is written down, so that a name or an argument that programs use does not go away by accident."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import ftclient

WRITTEN = Path(__file__).with_name("public.txt")


def test_the_public_names_are_those_written_down() -> None:
    """Names may be added: GOLDEN=write writes the file anew. Those that are there stay."""
    names = sorted(name for name in ftclient._MODULES)
    lines = [f"ftclient.{name}" for name in names]
    for name, method in inspect.getmembers(ftclient.Client, inspect.isfunction):
        if not name.startswith("_"):
            lines.append(f"Client.{name}({', '.join(_arguments(method))})")
    text = "\n".join(lines) + "\n"
    if os.environ.get("GOLDEN") == "write":
        WRITTEN.write_text(text)
    assert text == WRITTEN.read_text()


def _arguments(method: object) -> list[str]:
    parameters = list(inspect.signature(method).parameters.values())[1:]  # type: ignore[arg-type]
    keyword = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), len(parameters))
    names = [each.name if each.default is each.empty else f"{each.name}=" for each in parameters]
    return [*names[:keyword], *(["*"] if keyword < len(names) else []), *names[keyword:]]
