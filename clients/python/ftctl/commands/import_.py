"""The command that reads another tool's training file into a spec. It asks no daemon, and changes nothing there."""

from __future__ import annotations

import json
import sys
from enum import StrEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftclient.errors import FtError
from ftctl import exits, output, session

if TYPE_CHECKING:
    from ftctl.importing.report import Report

# A dataset_info.json is read whole; of rows the first one is enough.
_LOOKED_AT = 1 << 20


class From(StrEnum):
    """The tool a file is for."""

    AUTO = auto()
    LLAMAFACTORY = auto()
    SWIFT = auto()
    AXOLOTL = auto()


class Shape(StrEnum):
    """How the report is told."""

    TABLE = auto()
    JSON = auto()


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML, JSON or a command line; - is standard input.")],
    source: Annotated[From, typer.Option("--from", help="The tool it is for.")] = From.AUTO,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A key of that tool; null takes it away; may be repeated."),
    ] = None,
    dataset_info: Annotated[
        Path | None, typer.Option("--dataset-info", metavar="FILE", help="LLaMA-Factory's dataset_info.json.")
    ] = None,
    target: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the spec there.")] = None,
    shape: Annotated[Shape, typer.Option("--report", help="json: on standard output, with the spec.")] = Shape.TABLE,
) -> None:
    """Read a training file of LLaMA-Factory, ms-swift or axolotl, and tell what becomes of each key.

    The spec goes to standard output, the report to standard error. Exit code: 0 the spec trains what the file does,
    1 the file cannot be read, 6 something is refused and no spec is written; --set KEY=null does without it.
    """
    from ftctl.importing import reading
    from ftctl.importing.place import Place

    text, folder = _read(file)
    if dataset_info is not None and not dataset_info.is_file():
        raise FtError(f"cannot read {dataset_info}", advice="give the path of a dataset_info.json")
    info = dataset_info.absolute() if dataset_info else None
    found = reading.report(text, file, Place(folder, Path.cwd(), _look), source, overrides or (), info)
    _tell(found, shape)
    if found.faithful:
        _write(found, file, target, shape)
        return
    session.note_field("error:", f"{file} asks for what a spec cannot say")
    session.note_field("next:", "correct what is refused, or do without it: --set KEY=null; no spec was written")
    raise typer.Exit(exits.REFUSED)


def _read(file: str) -> tuple[str, Path]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FtError(
            f"cannot read {file}", why=str(reason), advice="give a training file, or pipe one to -"
        ) from error
    return text, Path.cwd() if file == "-" else Path(file).absolute().parent


def _look(path: Path) -> str | None:
    """The beginning of a file; a folder has no text, and what is not there is None."""
    try:
        if path.is_dir():
            return ""
        with path.open(encoding="utf-8", errors="replace") as opened:
            return opened.read(_LOOKED_AT)
    except (OSError, ValueError):
        return None


def _tell(found: Report, shape: Shape) -> None:
    if shape is Shape.JSON:
        output.line(json.dumps(found.as_dict(), indent=2, ensure_ascii=False, default=str))
        return
    from ftctl.show import imported

    imported.report(found)


def _write(found: Report, source: str, target: Path | None, shape: Shape) -> None:
    if target is None and shape is Shape.JSON:
        return
    with target.open("w", encoding="utf-8") if target else _standard_output() as out:
        out.write(f"# Read by ftctl import from {source}, a training of {found.tool}.\n")
        _dump(found.spec, out)


def _standard_output() -> Any:
    from contextlib import nullcontext

    return nullcontext(sys.stdout)


def _dump(spec: Any, out: Any) -> None:
    """The fields in the order of the contract."""
    from finetuned.v1.job_pb2 import JobSpec
    from finetuned.v1.training_pb2 import TrainingSpec

    names = [*JobSpec.DESCRIPTOR.fields_by_name, *TrainingSpec.DESCRIPTOR.fields_by_name]
    output.yaml({name: spec[name] for name in sorted(spec, key=names.index)}, out)
