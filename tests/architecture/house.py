"""The rules of the house as functions: each takes a folder and returns what breaks the rule, a line for each.

The tests call them on the repository, where they must find nothing, and on planted violations, where they must not.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOMS = ("scheduler", "daemon", "clients", "examples", "tests")
LONGEST_FILE, LONGEST_TEST_FILE = 400, 600
LONGEST_FUNCTION, USUAL_FUNCTION = 60, 35
COMMENTS_LEAST, COMMENTS_MOST = 0.12, 0.40
# Assembled, so that this file does not break its own rule.
FORBIDDEN = {
    "a path of one machine": re.compile("/" + r"(work|home/\w+|tmp/brief)/"),
    "the address of a package registry": re.compile(
        "py" + r"pi\.org|python" + r"hosted|npm" + r"js\.|crates" + r"\.io|proxy\.go" + r"lang"
    ),
    "unfinished work": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b"),
}
MOCKS = re.compile(r"unittest\.mo" + r"ck|\bMagic" + r"Mock\b|\bmo" + r"cker\b")
TEXT = {".py", ".go", ".mod", ".md", ".proto", ".toml", ".yaml", ".sh", ".sbatch", ".service", ".sysusers", ".tmpfiles"}
TEXT |= {".jsonl", ".lock", ""}
GENERATED = ".pb.go"
SKIPPED = {".git", ".venv", "build", "dist", "gen", "third_party", "__pycache__"}


def files(root: Path) -> Iterator[Path]:
    """Every text file that people wrote."""
    for path in sorted(root.iterdir()):
        if path.name in SKIPPED or path.name.endswith("_cache") or path.name == ".hypothesis":
            continue
        if path.is_dir():
            yield from files(path)
        elif path.suffix in TEXT and not path.name.endswith(GENERATED) and path.is_file():
            yield path


def modules(root: Path, *suffixes: str) -> list[tuple[Path, str]]:
    """The Python files of the rooms, or those with these endings, with their text."""
    wanted = suffixes or (".py",)
    found = [p for room in ROOMS if (root / room).is_dir() for p in files(root / room) if p.suffix in wanted]
    return [(path, path.read_text(encoding="utf-8")) for path in found]


def _is_test(root: Path, path: Path) -> bool:
    return path.relative_to(root).parts[0] == "tests" or path.name.endswith("_test.go")


def long_files(root: Path) -> list[str]:
    """Files over their measure."""
    problems = []
    for path, text in modules(root, ".py", ".go"):
        lines, most = text.count("\n"), LONGEST_TEST_FILE if _is_test(root, path) else LONGEST_FILE
        if lines > most:
            problems.append(f"{path.relative_to(root)}: {lines} lines, at most {most}")
    return problems


def functions(root: Path) -> list[tuple[str, int]]:
    """Name and length in lines of every function."""
    return [
        (f"{path.relative_to(root)}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for path, text in modules(root)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def long_functions(root: Path) -> list[str]:
    """Functions over the measure, and the 95th percentile over its own."""
    found = functions(root)
    problems = [
        f"{name}: {lines} lines, at most {LONGEST_FUNCTION}" for name, lines in found if lines > LONGEST_FUNCTION
    ]
    usual = statistics.quantiles([lines for _, lines in found], n=20)[-1] if len(found) > 1 else 0
    if usual > USUAL_FUNCTION:
        problems.append(f"the 95th percentile of functions is {usual:.0f} lines, at most {USUAL_FUNCTION}")
    return problems


def unexplained_modules(root: Path) -> list[str]:
    """Modules of ours that do not open with a paragraph saying what they are."""
    return [
        f"{path.relative_to(root)}: opens without a docstring"
        for path, text in modules(root)
        if not _is_test(root, path) and not ast.get_docstring(ast.parse(text))
    ]


def comment_share(root: Path) -> float:
    """Share of comment and docstring lines in all lines that are not blank, tests left out."""
    prose = total = 0
    for path, text in modules(root):
        if not _is_test(root, path):
            prose += len(_prose_lines(text))
            total += sum(1 for line in text.splitlines() if line.strip())
    return prose / total


def _prose_lines(text: str) -> set[int]:
    lines = {t.start[0] for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def forbidden_words(root: Path) -> list[str]:
    """Lines with something that has no place in the repository."""
    return [
        f"{path.relative_to(root)}:{number}: {what}"
        for path in files(root)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for what, pattern in FORBIDDEN.items()
        if pattern.search(line)
    ]


def mocks(root: Path) -> list[str]:
    """Tests that replace parts of the code they test."""
    return [f"{path.relative_to(root)}: {m.group()}" for path, text in modules(root) if (m := MOCKS.search(text))]


def undefaulted_fields(proto: str) -> list[str]:
    """Optional fields of a .proto's text whose comment, or whose message's comment, says nothing of the unset case."""
    said = re.compile(r"default|unset|required|exactly one|refused|needs", re.IGNORECASE)
    problems, around, comment, fresh = [], "", "", False
    for line in proto.splitlines():
        text = line.strip()
        if text.startswith("//"):
            # A comment holds for all fields below it up to the next comment.
            comment, fresh = (comment if fresh else "") + text, True
            continue
        fresh = False
        if text.startswith("message "):
            around, comment = comment, ""
        elif text.startswith("optional ") and not said.search(around + comment):
            problems.append(text.split("=")[0].strip())
    return problems


def untrue_tree(root: Path, readme: str) -> list[str]:
    """Paths in the README's tree that do not exist, and entries of the root that it leaves out."""
    block = readme.split("<!-- tree -->", 1)[1].split("```", 2)[1].splitlines()[1:]
    shown: list[Path] = []
    for line in (line for line in block if line.strip()):
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        parents = [p for p in shown if len(p.parts) == depth] if depth else [Path()]
        shown.append(parents[-1] / name.replace("/", "\x00").rstrip("\x00"))
    paths = [Path(str(p).replace("\x00", "/")) for p in shown]
    missing = [f"{path}: is in the tree, but not here" for path in paths if not (root / path).exists()]
    top = {p.parts[0] for p in paths}
    rooms = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name not in SKIPPED and p.name[0] not in "._")
    return missing + [f"{room}: is here, but not in the tree" for room in rooms if room not in top]
