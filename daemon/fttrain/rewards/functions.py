"""A user's own reward: a function of a Python file from a folder that the host's owner allows.

The daemon has judged the path. What the function returns is checked, since it is the only stranger in the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

from finetuned.v1 import event_pb2
from fttrain.failure import Refused

_ADVICE = "it is rewards(prompts, completions, answers) and returns a number, or None, for each completion"

Function = Callable[[list[str], list[str], list[str | None]], list[float | None]]


def load_function(path: str, name: str, where: str) -> Function:
    """The function of this name in the file; raises Refused, naming the field, when there is none or it fails."""
    spec = spec_from_file_location("user_reward", path)
    if spec is None or spec.loader is None:
        raise _refused(f"{where}.path: {path} is no Python file")
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    # It is anybody's code.
    except Exception as error:
        raise _refused(f"{where}.path: {path} cannot be imported: {error!r}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise _refused(f"{where}.function: {path} has no function {name}")

    def checked(prompts: list[str], completions: list[str], answers: list[str | None]) -> list[float | None]:
        try:
            found = list(function(prompts, completions, answers))
        except Exception as error:
            raise _refused(f"{where}: {name} failed: {error!r}") from error
        if len(found) != len(completions) or not all(map(_is_value, found)):
            raise _refused(f"{where}: {name} returned {str(found)[:200]} for {len(completions)} completions")
        return [None if value is None else float(value) for value in found]

    return checked


def _is_value(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _refused(message: str) -> Refused:
    return Refused(event_pb2.FAILURE_CLASS_INTERNAL, message, _ADVICE)
