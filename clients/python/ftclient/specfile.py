"""A spec file becomes a JobSpec message: YAML 1.2, fields of the job and of its training side by side.

Reads, overrides (`--set a.b=c`) and fills in; every problem is collected with its field and line, and what is well is
in the message all the same, so that the daemon can be asked about the rest. Relative paths start at the file's folder,
those of an override at the current one. Never asks the daemon anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from finetuned.v1.job_pb2 import JobSpec
from finetuned.v1.training_pb2 import TrainingSpec
from ftclient import secrets
from ftclient.errors import Problem, SpecFileError
from ftclient.fields import Filler, absolute, is_path, line_of, paths, plain

# A spec is lines that somebody wrote; what is larger is something else.
LARGEST = 1024 * 1024

_JOB_FIELDS = {name for name in JobSpec.DESCRIPTOR.fields_by_name if name != "training"}
_KNOWN = (
    *sorted(path for path in paths(JobSpec.DESCRIPTOR) if not path.startswith("training")),
    *paths(TrainingSpec.DESCRIPTOR),
)
# Of each choice that excludes the others: its members.
_CHOICES = [{field.name for field in oneof.fields} for oneof in TrainingSpec.DESCRIPTOR.oneofs]


@dataclass(frozen=True, slots=True)
class SpecFile:
    """What was read: the message as far as it can be made, the problems, and the values as they stood there."""

    source: str
    spec: JobSpec
    problems: tuple[Problem, ...]
    values: Mapping[str, Any]

    def line_of(self, path: str) -> int | None:
        """The line of the field that a daemon's violation names, or of the nearest field around it."""
        node: Any = self.values
        line = None
        for part in re.findall(r"[^.\[\]]+", path):
            key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
            if key == "training" and isinstance(node, Mapping) and key not in node:
                continue
            line = line_of(node, key) or line
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                break
        return line


def load_spec(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> JobSpec:
    """The spec in a YAML file, with overrides like "schedule.max_steps=20". Raises SpecFileError with all problems."""
    found = read(Path(path).read_text(), overrides, source=str(path), base=Path(path).parent)
    if found.problems:
        raise SpecFileError(found.source, found.problems)
    return found.spec


def from_mapping(values: Mapping[str, Any]) -> JobSpec:
    """The spec that a mapping with the fields of a spec file describes. Raises SpecFileError with all problems."""
    found = _build(values, [], "the spec", Path.cwd())
    if found.problems:
        raise SpecFileError(found.source, found.problems)
    return found.spec


def values_of(spec: JobSpec) -> dict[str, Any]:
    """The fields of a spec file, from which `from_mapping` makes the same spec again."""
    values = plain(spec)
    training = values.pop("training", {})
    return {**values, **training}


def read(text: str, overrides: Iterable[str] = (), *, source: str = "the spec", base: Path | None = None) -> SpecFile:
    """The spec in a YAML text. Raises SpecFileError only if it is not YAML or not a mapping; else see `problems`."""
    if len(text) > LARGEST:
        what = "is larger than 1 MiB; rows belong in a file of their own, named by data.train[0].path"
        raise SpecFileError(source, [Problem("", what)])
    values = _parse(text, source)
    if values is None:
        raise SpecFileError(source, [Problem("", "the file is empty; it needs at least `model` and `data`")])
    if not isinstance(values, dict):
        raise SpecFileError(source, [Problem("", "expected `field: value` lines, e.g. `model:`, `data:`", 1)])
    problems: list[Problem] = []
    for override in overrides:
        try:
            _override(values, override)
        except ValueError as error:
            problems.append(Problem(f"--set {override}", str(error)))
    return _build(values, problems, source, (base or Path.cwd()).absolute())


def _build(values: Mapping[str, Any], problems: Iterable[Problem], source: str, base: Path) -> SpecFile:
    filler = Filler(base, _KNOWN)
    filler.problems.extend(problems)
    spec = JobSpec()
    of_job = [key for key in values if key in _JOB_FIELDS]
    of_training = [key for key in values if key not in _JOB_FIELDS and key != "training"]
    filler.fill(spec, values, keys=of_job)
    nested = values.get("training")
    if isinstance(nested, Mapping):
        filler.fill(spec.training, nested)
        for key in of_training:
            text = "with `training:` in the file, every field of the training goes under it"
            filler.problem(str(key), text, line_of(values, key))
    elif nested is not None:
        filler.problem("training", "expected a mapping with model, data, …", line_of(values, "training"))
    else:
        filler.fill(spec.training, values, keys=of_training)
    found = SpecFile(source, spec, (), values)
    for path, text in secrets.take_out(spec):
        filler.problem(path.removeprefix("training."), text, found.line_of(path))
    return replace(found, problems=tuple(sorted(filler.problems, key=lambda problem: problem.line or 0)))


def _parse(text: str, source: str) -> Any:
    """The YAML document; mappings and lists remember their lines."""
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        found = re.search(r'duplicate key "([^"]*)"', error.problem or "")
        text = "is given twice in one mapping; keep one"
        raise SpecFileError(source, [Problem(found[1] if found else "", text, _line(error))]) from error
    except MarkedYAMLError as error:
        raise SpecFileError(source, [Problem("", _syntax(error), _line(error))]) from error
    except RecursionError:
        raise SpecFileError(source, [Problem("", "not a spec: nested too deeply")]) from None
    except YAMLError as error:
        raise SpecFileError(source, [Problem("", f"not YAML: {str(error).splitlines()[0]}")]) from error


def _syntax(error: Any) -> str:
    problem = str(error.problem or error.context or "not YAML")
    if "\\t" in problem:
        return "a tab; indent with spaces"
    return f"not YAML: {problem}"


def _line(error: Any) -> int | None:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else None


def _override(values: dict[str, Any], override: str) -> None:
    """Sets one field, given as "path.to.field=value" with the value in YAML. Raises ValueError."""
    path, equals, text = override.partition("=")
    parts: list[str] = re.findall(r"[^.\[\]]+", path)
    if not equals or not parts:
        raise ValueError("expected field=value, e.g. schedule.max_steps=20")
    try:
        value = _parse(text, "the value")
    except SpecFileError as error:
        raise ValueError(str(error)) from error
    if parts[0] == "training":
        del parts[0]
    node: Any = values
    if parts[0] not in _JOB_FIELDS and isinstance(values.get("training"), dict):
        node = values["training"]
    for others in _CHOICES:
        if parts[0] in others:
            # What is chosen here takes the place of what the file chose.
            for other in others - {parts[0]}:
                node.pop(other, None)
    for part, following in pairwise(parts):
        node = _step(node, part, [] if following.isdigit() else {})
    if isinstance(value, str) and _is_path(parts):
        value = absolute(value, Path.cwd())
    _put(node, parts[-1], value)


def _is_path(parts: list[str]) -> bool:
    """Whether a text there is a path: by its name, or because an item of the list may be given by its path alone."""
    of_list = re.sub(r"\.\d+$", "", ".".join(parts))
    return is_path(parts[-1]) or f"{of_list}[0].path" in _KNOWN


def _step(node: Any, part: str, empty: Any) -> Any:
    """The container below `part`, made if there is none."""
    if isinstance(node, list):
        if _index(node, part) == len(node):
            node.append(empty)
        found = node[int(part)]
    else:
        if node.get(part) is None:
            node[part] = empty
        found = node[part]
    if isinstance(found, list | dict):
        return found
    raise ValueError(f"{part} is a single value in the file; nothing can be set inside it")


def _put(node: Any, part: str, value: Any) -> None:
    if isinstance(node, dict):
        node[part] = value
    elif _index(node, part) == len(node):
        node.append(value)
    else:
        node[int(part)] = value


def _index(node: list[Any], part: str) -> int:
    """The place in a list; one past its end appends. Raises ValueError."""
    if not part.isdigit() or int(part) > len(node):
        raise ValueError(f"{part!r} is not a place in the list; accepted: 0 to {len(node)}")
    return int(part)
