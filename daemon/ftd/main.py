"""The command `ftd`: reads the configuration, runs the daemon, turns failures into one line and an exit code.

0  stopped on request
1  cannot start, or had to end; the log says why
2  the command line or the configuration is wrong
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from ftd.config import Config, ConfigError, load


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `ftd`. Always raises SystemExit."""
    options = _parser().parse_args(arguments)
    try:
        config = load(options.config)
    except ConfigError as error:
        _say(str(error))
        sys.exit(2)
    if options.command == "check-config":
        sys.stdout.write(f"{options.config or 'the defaults'}: fine\n")
        sys.exit(0)
    sys.exit(_serve(config))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ftd", description="The fine-tuning daemon. Runs until SIGTERM or SIGINT.")
    parser.add_argument("--version", action="version", version=f"ftd {version('finetuned')}")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="configuration in TOML; default: every key's default"
    )
    parser.add_argument(
        "command", nargs="?", choices=["check-config"], help="check-config: only say whether the file can be used"
    )
    return parser


def _serve(config: Config) -> int:
    # Here, not above: a mistake in the configuration is told at once, without loading the daemon.
    from ftd.app import SocketLost, serve
    from ftd.database import DatabaseFailed, DatabaseRefused
    from ftd.devices import DeviceError
    from ftd.logs import set_up
    from ftd.service.server import ListenRefused
    from ftd.state import StateRefused

    set_up(config.daemon.log_format, config.daemon.log_level)
    code = 0
    try:
        asyncio.run(serve(config))
    except* (DatabaseFailed, SocketLost, StateRefused, DatabaseRefused, DeviceError, ListenRefused) as group:
        _say(str(_first(group)))
        code = 1
    return code


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _say(text: str) -> None:
    for line in text.splitlines():
        sys.stderr.write(f"ftd: {line}\n")
