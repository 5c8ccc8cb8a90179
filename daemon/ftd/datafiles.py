"""Which files a path of the spec means: a file, those of a folder, or those that a pattern fits, all below the roots.

The answer is where each file really lies, so the preparation can see that nothing has moved since. It must never look
into one.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ftd.limits import DATA_ENDINGS, DATA_FILE, ending
from ftd.paths import PathRefused, Roots

MOST_FILES = 1000
_WILDCARD = re.compile(r"[*?[]")
# What `datasets` and LLaMA-Factory keep beside the files with rows.
_NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
# JSON lines stand in files of either name.
_SAME_KIND = {".jsonl": ".json"}


def data_files(path: str, roots: Roots) -> tuple[str, ...]:
    """Absolute paths without links, sorted; at least one, all of one kind. Raises PathRefused."""
    wildcard = _WILDCARD.search(path)
    roots.check(path[: path.rindex("/", 0, wildcard.start()) + 1] if wildcard else path)
    if wildcard and not os.path.lexists(path):
        return _matching(path, roots)
    if os.path.isdir(path):  # noqa: PTH112  it may hold any byte that the kernel takes
        return _inside(path, roots)
    real = roots.real(path, "file")
    if ending(real) not in DATA_ENDINGS:
        raise PathRefused(f"has the ending {PurePosixPath(real).suffix or '(none)'}; accepted is {DATA_FILE}")
    return (real,)


def _inside(folder: str, roots: Roots) -> tuple[str, ...]:
    names = sorted(os.listdir(roots.real(folder, "folder")))  # noqa: PTH208
    files = [f"{folder.rstrip('/')}/{name}" for name in names if _holds_rows(name)]
    if not files:
        folders = [name for name in names if os.path.isdir(f"{folder}/{name}") and not name.startswith((".", "_"))]  # noqa: PTH112
        below = f"; it has the folders {', '.join(folders[:12])}" if folders else ""
        raise PathRefused(f"is a folder without a file of rows{below}; accepted is a folder with {DATA_FILE}")
    return _real(files, "holds", roots)


def _matching(pattern: str, roots: Roots) -> tuple[str, ...]:
    # Without `**`, which could walk through a whole disk.
    files = [path for path in sorted(glob.glob(pattern)) if _holds_rows(PurePosixPath(path).name)]  # noqa: PTH207
    if not files:
        raise PathRefused(f"fits no file of rows; accepted is a pattern, with *, ? and [ ], that fits {DATA_FILE}")
    return _real(files, "fits", roots)


def _holds_rows(name: str) -> bool:
    return ending(name) in DATA_ENDINGS and name not in _NOT_ROWS and not name.startswith((".", "_"))


def _real(files: Sequence[str], has: str, roots: Roots) -> tuple[str, ...]:
    if len(files) > MOST_FILES:
        raise PathRefused(f"{has} {len(files)} files of rows; accepted are at most {MOST_FILES}")
    kinds = sorted({_SAME_KIND.get(ending(path), ending(path)) for path in files})
    if len(kinds) > 1:
        found = f"{has} files of several kinds, {' and '.join(kinds)}"
        raise PathRefused(f"{found}; accepted is one kind, e.g. a pattern with *{kinds[0]}")
    real = []
    for path in files:
        try:
            real.append(roots.real(path, "file"))
        except PathRefused as refused:
            raise PathRefused(f"{has} {PurePosixPath(path).name}, which {refused}") from None
    return tuple(real)
