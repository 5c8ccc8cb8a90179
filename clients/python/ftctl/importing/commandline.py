"""Shell scripts and command lines that start a training: the words of each command, as keys. It runs nothing.

Known are comments, continued lines, `NAME=value`, and the sums that such scripts do with expr; whatever else a shell
would compute stays as it is written, and is refused where it stands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_PROGRAMS = {"swift": "swift", "llamafactory-cli": "llamafactory", "lmf": "llamafactory", "axolotl": "axolotl"}
# Files that are the program where somebody starts it by Python, torchrun or deepspeed: tool and verb.
_FILES = (
    (re.compile(r"(^|/)swift/cli/(\w+)\.py$"), "swift", ""),
    (re.compile(r"(^|/)(train|train_bash)\.py$"), "llamafactory", "train"),
    (re.compile(r"^axolotl\.cli\.(\w+)$"), "axolotl", "train"),
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_SUM = re.compile(r"\$\(\(?\s*(?:expr\s+)?(\d+)\s*\\?([-+*/])\s*(\d+)\s*\)?\)")
_VARIABLE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_]\w*)=([^\s;]*)\s*$", re.MULTILINE)
_SUMS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the tool, the word after its name, the environment it is given, its keys, the files it names."""

    tool: str
    verb: str
    keys: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


def commands(text: str) -> list[Command]:
    """The commands in a script that start one of the tools. Raises ValueError if quotes do not close."""
    text = re.sub(r"(?m)(^|\s)#.*$", r"\1", text).replace("\\\n", " ")
    variables = dict(_VARIABLE.findall(text))
    text = re.sub(r"\$\{?([A-Za-z_]\w*)\}?", lambda found: variables.get(found[1], found[0]), text)
    text = _SUM.sub(_sum, text)
    exported = {f"${name}": value for name, value in variables.items() if name.isupper()}
    return [command for line in _lines(text) if (command := _command(line, exported))]


def _sum(found: re.Match[str]) -> str:
    left, right = int(found[1]), int(found[3])
    return found[0] if found[2] == "/" and not right else str(_SUMS[found[2]](left, right))


def _lines(text: str) -> Iterator[list[str]]:
    """The words of each simple command."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="\n;&|")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    line: list[str] = []
    for token in lexer:
        if set(token) <= set("\n;&|"):
            yield line
            line = []
        else:
            line.append(token)
    yield line


def _command(line: list[str], exported: dict[str, str]) -> Command | None:
    for index, token in enumerate(line):
        name = token.rpartition("/")[2]
        if name in _PROGRAMS and index + 1 < len(line):
            return _read(_PROGRAMS[name], line[index + 1], line[:index], line[index + 2 :], exported)
        for pattern, tool, verb in _FILES:
            if found := pattern.search(token):
                return _read(tool, verb or found[2], line[:index], line[index + 1 :], exported)
    return None


def _read(tool: str, verb: str, before: list[str], words: list[str], exported: dict[str, str]) -> Command:
    keys: dict[str, Any] = {"command": verb, **exported}
    keys |= {f"${name}": value for word in before if _is_assignment(word) for name, _, value in [word.partition("=")]}
    files: list[str] = []
    key = ""
    for word in words:
        option, equals, value = word.partition("=")
        if word.startswith("--"):
            key = option[2:].replace("-", "_")
            keys[key] = value if equals else True
            key = "" if equals else key
        elif key:
            keys[key] = word if keys[key] is True else [*_as_list(keys[key]), word]
        elif _is_assignment(word):
            keys[option] = value
        else:
            files.append(word)
    if tool == "swift" and isinstance(keys.get("config"), str):
        files.append(keys.pop("config"))
    return Command(tool, verb, keys, tuple(files))


def _is_assignment(word: str) -> bool:
    return bool(_ASSIGNMENT.fullmatch(word))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
