"""`python -m fttrack`: reads what to follow from standard input, as JSON, and a secret from the environment.

0  told everything
1  the tracker, or the daemon, could not be told or asked; the last line says why
3  the tracker hung at the end
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from fttrack.follow import Request, follow, told

# Not an argument: those are everybody's to read.
SECRET = "FTTRACK_SECRET"  # noqa: S105  a name


def main() -> int:
    """Follows until the job has ended; the exit code."""
    secret = os.environ.pop(SECRET, "")
    given = json.load(sys.stdin)
    request = Request(**{**given, "folder": Path(given["folder"])}, secret=secret)
    try:
        follow(request)
    except Exception as error:
        sys.stderr.write(f"{told(error, secret)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
