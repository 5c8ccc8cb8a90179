"""Scores of answers, held to what sacrebleu 2.6 (on the same tokens) and rouge-score 0.1.2 compute."""

from __future__ import annotations

import pytest

from fttrain.scores import scores

CAT = ("the cat sat on the mat", "the cat is on the mat")
QUEUE = ("A queue is a line of jobs.", "A line of jobs that wait.")
HELLO = ("hello there", "general kenobi")
CHINESE = ("机器学习是人工智能的一个分支。", "机器学习是人工智能的分支")
SILENT = ("", "something")


@pytest.mark.parametrize(
    ("pairs", "bleu", "rouge"),
    [
        ([CAT], 37.9918, (83.3333, 60.0, 83.3333)),
        ([CAT, QUEUE], 24.6969, (72.4359, 57.2727, 72.4359)),
        ([HELLO], 0.0, (0.0, 0.0, 0.0)),
        ([("a b", "a b c d e f")], 0.0, (50.0, 33.3333, 50.0)),
        ([("x y z w v", "x y z w v")], 100.0, (100.0, 100.0, 100.0)),
        # Each character is a word; rouge-score knows no words in Chinese.
        ([CHINESE], 67.2986, (92.3077, 83.3333, 92.3077)),
        ([CAT, QUEUE, HELLO, CHINESE, SILENT], 49.4917, (47.4359, 39.5758, 47.4359)),
    ],
)
def test_scores_are_those_of_the_known_libraries(
    pairs: list[tuple[str, str]], bleu: float, rouge: tuple[float, float, float]
) -> None:
    found = scores(*zip(*pairs, strict=True))
    assert found["bleu"] == pytest.approx(bleu, abs=1e-4)
    assert (found["rouge1"], found["rouge2"], found["rougeL"]) == pytest.approx(rouge, abs=1e-4)


def test_an_exact_match_is_one_but_for_white_space_around_it() -> None:
    answers, expected = ("42", " yes\n", "No", ""), ("42", "yes", "no", "")
    assert scores(answers, expected)["exact_match"] == 75.0


def test_nothing_written_is_worth_nothing() -> None:
    assert set(scores([""], ["something"]).values()) == {0.0}


def test_words_of_two_scripts_stand_apart() -> None:
    # One word of four is the one that was expected.
    assert scores(["用GPU训练"], ["GPU"])["rouge1"] == pytest.approx(200 * 1 / (4 + 1))
