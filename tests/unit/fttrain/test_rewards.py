"""Rewards by rule, on what models write: right and wrong answers, nothing at all, and texts made to break the rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from finetuned.v1 import online_pb2
from fttrain import rewards
from fttrain.failure import Refused
from fttrain.report import Report
from fttrain.rewards import rules

# Each letter can be taken in two ways, so a text of n of them in 2^n, before it is found not to fit.
CATASTROPHIC = "(a|a)+"


class Letters:
    """A tokenizer whose tokens are characters."""

    def batch_decode(self, rows: list[list[int]]) -> list[str]:
        return ["".join(map(chr, row)) for row in rows]


class Notices(Report):
    """A report that keeps what a person is told."""

    def __init__(self) -> None:
        super().__init__(None, 1)
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        self.told.append(text)


def values(reward: str, *texts: str, answers: list[str] | None = None, report: Report | None = None) -> list[Any]:
    """What a reward, in text format, gives for each text."""
    given = text_format.Parse(f'name: "mine" weight: 1 {reward}', online_pb2.RewardFunction())
    tools = rewards.Tools(Letters(), lambda field, weights: None, report or Notices())
    [function] = rewards.build([given], "grpo.rewards", tools)
    assert function.__name__ == "mine"
    ids = [[ord(letter) for letter in text] for text in texts]
    answer = answers or [""] * len(texts)
    return list(
        function(prompts=[[63]] * len(texts), completions=list(texts), completion_ids=ids, answer=answer, state=1)
    )


@pytest.mark.parametrize(
    ("text", "answer", "pattern", "numbers", "expected"),
    [
        ("  Paris \n", "paris", None, False, 1),
        ("New   York", "new york", None, False, 1),
        ("It is Paris", "Paris", None, False, 0),
        ("", "Paris", None, False, 0),
        ("I think <a>3</a>, no, <a>4</a>", "4", "<a>(.*?)</a>", False, 1),
        ("<a>4", "4", "<a>(.*?)</a>", False, 0),
        ("so 12 + 3 is 15", "long reasoning #### 15", r"(?:####|is) (\d+)", False, 1),
        ("1,000.0", "1000", None, True, 1),
        ("$12.50", "12.5", None, True, 1),
        ("1000", "1,000", None, False, 0),
        ("nan", "nan", None, True, 1),
        ("inf", "1" * 400, None, True, 0),
        ("twelve", "12", None, True, 0),
        ("9" * 10_000, "9", None, True, 0),
    ],
)
def test_an_exact_answer(text: str, answer: str, pattern: str | None, numbers: bool, expected: float) -> None:
    found = rules.compiled(pattern) if pattern else None
    assert rules.exact_answer(text, answer, found, numbers=numbers) == expected


def test_a_row_without_an_answer_has_nothing_to_be_compared_with() -> None:
    assert values("exact_answer {}", "a", "b", answers=["", "b"]) == [None, 1.0]


@pytest.mark.parametrize(
    ("pattern", "whole", "text", "expected"),
    [
        (r"\d+", False, "about 12", 1),
        (r"\d+", True, "about 12", 0),
        (r"about.12", True, "about\n12", 1),
        (r"\d+", False, "", 0),
        ("", True, "", 1),
    ],
)
def test_a_match(pattern: str, whole: bool, text: str, expected: float) -> None:
    assert rules.regex_match(text, rules.compiled(pattern), whole=whole) == expected


@pytest.mark.parametrize("reward", ["regex_match", "exact_answer"])
def test_a_pattern_that_would_never_end_counts_as_no_match(reward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PATTERN_SECONDS", 0.05)
    report = Notices()
    given = f'{reward} {{ pattern: "^{CATASTROPHIC}$" }}'
    text = "a" * 60 + "!"
    assert values(given, text, text, "b", answers=["b", "b", "b"], report=report)[:2] == [0.0, 0.0]
    assert report.told == [
        f"grpo.rewards[0].{reward}: the pattern takes over 0.05 s on an answer, which counts as 0",
    ]


def test_what_is_no_pattern_is_refused_with_its_field() -> None:
    with pytest.raises(Refused, match=r"grpo\.rewards\[0\]\.regex_match: '\(' is no regular expression"):
        values('regex_match { pattern: "(" }', "a")


@pytest.mark.parametrize(
    ("tokens", "expected"), [(0, 0.0), (5, 0.5), (10, 1.0), (20, 1.0), (30, 0.5), (40, 0.0), (400, 0.0)]
)
def test_a_length_within_its_band(tokens: int, expected: float) -> None:
    assert rules.length_band(tokens, 10, 20) == expected
    assert values("length_band { min_tokens: 10 max_tokens: 20 }", "x" * tokens) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>why</think>\n<answer>4</answer>\n", 1),
        ("<think></think><answer></answer>", 1),
        ("<think>a</think>b<answer>4</answer>", 0),
        ("<answer>4</answer><think>a</think>", 0),
        ("<think>a</think><answer>4", 0),
        ("<think><think>a</think><answer>4</answer>", 0),
        ("<think>a</think><answer>4</answer><answer>5</answer>", 0),
        ("Well: <think>a</think><answer>4</answer>", 0),
        ("", 0),
        ("<think>" * 10_000, 0),
    ],
)
def test_a_format_of_tags(text: str, expected: float) -> None:
    assert rules.tag_format(text, ["think", "answer"]) == expected


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        ('{"a": 1, "b": [null]}', [], 1),
        ('{"a": 1, "b": [null]}', ["a", "b"], 1),
        ('{"a": 1}', ["a", "b"], 0),
        ('["a", "b"]', ["a"], 0),
        (" 12 \n", [], 1),
        ("", [], 0),
        ('{"a": 1} and more', [], 0),
        ("```json\n{}\n```", [], 0),
        ("{'a': 1}", [], 0),
        ("NaN", [], 0),
        ('{"a": Infinity}', [], 0),
        ("[" * 100_000, [], 0),
        ("1" * 10_000, [], 0),
    ],
)
def test_json(text: str, keys: list[str], expected: float) -> None:
    assert rules.json_valid(text, keys) == expected


FUNCTION = """
def rewards(prompts, completions, answers):
    return [{value} for text, answer in zip(completions, answers)]
"""


def user_function(folder: Path, code: str, name: str = "rewards") -> str:
    (folder / "mine.py").write_text(code)
    return f'user_function {{ path: "{folder / "mine.py"}" function: "{name}" }}'


def test_a_users_function_is_given_texts(tmp_path: Path) -> None:
    given = user_function(tmp_path, FUNCTION.format(value="len(text) if answer else None"))
    assert values(given, "abc", "d", answers=["x", ""]) == [3.0, None]
    echo = user_function(
        tmp_path, "def mine(prompts, completions, answers):\n    return [float(prompts[0] == '?')]", "mine"
    )
    assert values(echo, "a") == [1.0]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def other(): pass", r"user_function\.function: .*mine\.py has no function rewards"),
        ("import nothing_of_this_name", r"user_function\.path: .*mine\.py cannot be imported: ModuleNotFoundError"),
        ("def rewards(p, c, a): return 1 / 0", r"rewards failed: ZeroDivisionError"),
        ("def rewards(p, c, a): return []", r"rewards returned \[\] for 1 completions"),
        ("def rewards(p, c, a): return ['much']", r"rewards returned \['much'\] for 1 completions"),
        ("def rewards(p, c, a): return [float('nan')]", r"rewards returned \[nan\] for 1 completions"),
    ],
)
def test_a_users_function_that_cannot_be_used_ends_the_job_with_its_cause(
    code: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=expected):
        values(user_function(tmp_path, code), "a")
