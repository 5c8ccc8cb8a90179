"""Where `ftctl` begins. `ftctl version` is answered here, before anything slow is imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs one command and exits with its code; see `ftctl.exits`."""
    if sys.argv[1:] in (["version"], ["--version"]):
        from ftclient import __version__

        sys.stdout.write(f"ftctl {__version__}\n")
        return
    from ftctl.app import app

    app()
