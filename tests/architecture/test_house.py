"""The rules of the house hold for the repository, and each of them bites where it is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.architecture import house

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "proto" / "finetuned" / "v1"

RULES = [house.long_files, house.long_functions, house.unexplained_modules, house.forbidden_words, house.mocks]
VIOLATIONS: dict[str, tuple[str, str]] = {
    "long_files": ("daemon/ftd/long.py", '"""A file."""\n' + "x = 1\n" * 401),
    "long_functions": ("daemon/ftd/long.py", '"""A file."""\n\n\ndef f():\n' + "    x = 1\n" * 61),
    "unexplained_modules": ("daemon/ftd/mute.py", "x = 1\n"),
    "forbidden_words": ("CONTRIBUTING.md", "Look into " + "/wo" + "rk/main.\n"),
    "mocks": ("tests/unit/test_it.py", "from unittest.mo" + "ck import patch\n"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    assert rule(ROOT) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_bites(rule: Callable[[Path], list[str]], tmp_path: Path) -> None:
    path, text = VIOLATIONS[rule.__name__]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert len(rule(tmp_path)) == 1


@pytest.mark.parametrize("word", ["TO" + "DO: later", "FIX" + "ME", "raise NotImplemented" + "Error", "py" + "pi.org"])
def test_every_forbidden_word_is_found(word: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(word)
    assert len(house.forbidden_words(tmp_path)) == 1


def test_go_is_measured_too_but_not_what_is_generated(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    for name in ("long.go", "long_test.go", "long.pb.go"):
        (tmp_path / "clients" / name).write_text("// A line.\n" * 401)
    assert house.long_files(tmp_path) == ["clients/long.go: 401 lines, at most 400"]


def test_the_usual_function_is_short(tmp_path: Path) -> None:
    """Many functions just under the limit are a problem too."""
    body = "".join(f"def f{i}():\n" + "    x = 1\n" * 40 for i in range(30))
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "many.py").write_text(body)
    assert house.long_functions(tmp_path) == ["the 95th percentile of functions is 41 lines, at most 35"]


def test_the_code_explains_itself_and_does_not_chatter() -> None:
    assert house.COMMENTS_LEAST <= house.comment_share(ROOT) <= house.COMMENTS_MOST


@pytest.mark.parametrize(("text", "share"), [("x = 1\n" * 9 + "# why\n", 0.1), ('"""What."""\nx = 1\n', 0.5)])
def test_comments_and_docstrings_are_counted(text: str, share: float, tmp_path: Path) -> None:
    (tmp_path / "daemon").mkdir()
    (tmp_path / "daemon" / "some.py").write_text(text)
    assert house.comment_share(tmp_path) == pytest.approx(share)


@pytest.mark.parametrize("proto", ["training.proto", "job.proto"])
def test_every_optional_field_says_what_unset_means(proto: str) -> None:
    if proto == "job.proto":
        # Of the job's messages only the spec is written by users.
        text = (PROTOS / proto).read_text(encoding="utf-8")
        assert house.undefaulted_fields(text[text.index("message JobSpec") : text.index("enum JobState")]) == []
    else:
        assert house.undefaulted_fields((PROTOS / proto).read_text(encoding="utf-8")) == []


def test_a_field_that_does_not_say_it_is_found() -> None:
    proto = "message M {\n  // Default: 1.\n  optional int32 a = 1;\n  // A size.\n  optional int32 b = 2;\n}\n"
    assert house.undefaulted_fields(proto) == ["optional int32 b"]
