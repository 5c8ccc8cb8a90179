"""Where an imported file stands: how the paths in it are found, through one function that looks at the disk.

A path in a training file starts where the tool was started, which the file does not say: tried are the file's folder,
the ones around it, and the current one. Nothing is written, and no file is opened but through `look`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# The text of a file, or its beginning if it is long; None if there is no such file. A folder has no text: "".
Look = Callable[[Path], str | None]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the imported file, the current folder, and how to look at a file."""

    folder: Path
    current: Path
    look: Look

    def find(self, path: str) -> Path | None:
        """The absolute path of what a relative or absolute path in the file means, if it is there."""
        given = Path(path).expanduser()
        around = [] if given.is_absolute() else [self.folder, *self.folder.parents, self.current]
        for candidate in [base / given for base in around] or [given]:
            if self.look(candidate) is not None:
                return tidy(candidate)
        return None

    def columns(self, path: Path) -> set[str] | None:
        """The columns of a data file's first row; None if they cannot be told."""
        head = self.look(path)
        if head is None or path.suffix not in (".json", ".jsonl", ".csv"):
            return None
        if path.suffix == ".csv":
            return {name.strip().strip('"') for name in head.partition("\n")[0].split(",")}
        try:
            row, _ = json.JSONDecoder().raw_decode(head.lstrip("\ufeff[ \t\r\n"))
        except ValueError:
            return None
        return set(row) if isinstance(row, dict) else None


def tidy(path: Path) -> Path:
    """The path without `..` and `.`, by its text alone."""
    return Path(os.path.normpath(path))


def is_hub_id(name: str) -> bool:
    """Whether a name has the form of a repository on a hub, "owner/name"."""
    return bool(_HUB_ID.fullmatch(name))
