from __future__ import annotations

import pytest

from finetuned.v1 import training_pb2
from fttrain.data.limits import Measures, TooLong, fitted
from fttrain.data.problems import BadRow
from fttrain.data.tokens import Example, IdAnswer, IdPair

LONG = Example([1, 2, 3, 4], [-100, -100, 3, 4])


def test_a_row_within_the_limit_stays_as_it_is() -> None:
    assert fitted(LONG, 4, training_pb2.LONG_ROWS_REFUSE) == (LONG, Measures(4, 4, 2, truncated=False))


def test_truncation_cuts_at_the_end() -> None:
    row, measures = fitted(LONG, 3, training_pb2.LONG_ROWS_TRUNCATE)
    assert row == Example([1, 2, 3], [-100, -100, 3])
    assert measures == Measures(3, 3, 1, truncated=True)


def test_a_row_whose_trained_tokens_are_cut_off_is_left_out() -> None:
    with pytest.raises(BadRow, match=r"no token of its first 2 tokens \(data\.max_length\) is trained on"):
        fitted(LONG, 2, training_pb2.LONG_ROWS_TRUNCATE)


def test_the_first_token_is_predicted_by_nothing() -> None:
    with pytest.raises(BadRow, match="no token of it is trained on"):
        fitted(Example([1, 2], [1, -100]), 9, training_pb2.LONG_ROWS_TRUNCATE)


@pytest.mark.parametrize("policy", [training_pb2.LONG_ROWS_DROP, training_pb2.LONG_ROWS_REFUSE])
def test_long_rows_are_told_apart_from_bad_ones(policy: training_pb2.LongRows.ValueType) -> None:
    with pytest.raises(TooLong, match=r"the row has 4 tokens; data\.max_length is 3"):
        fitted(LONG, 3, policy)


def test_of_a_pair_both_answers_are_cut_and_the_prompt_counts_twice() -> None:
    pair = IdPair([1, 2], [3, 4, 5], [6])
    row, measures = fitted(pair, 4, training_pb2.LONG_ROWS_TRUNCATE)
    assert row == IdPair([1, 2], [3, 4], [6])
    assert measures == Measures(4, 7, 3, truncated=True)
    with pytest.raises(BadRow, match="no token"):
        fitted(pair, 2, training_pb2.LONG_ROWS_TRUNCATE)


def test_of_an_answer_the_end_is_cut() -> None:
    answer = IdAnswer([1, 2], [3, 4, 5], label=False)
    row, measures = fitted(answer, 4, training_pb2.LONG_ROWS_TRUNCATE)
    assert row == IdAnswer([1, 2], [3, 4], label=False)
    assert measures == Measures(4, 4, 2, truncated=True)
    with pytest.raises(BadRow, match="no token"):
        fitted(answer, 2, training_pb2.LONG_ROWS_TRUNCATE)
