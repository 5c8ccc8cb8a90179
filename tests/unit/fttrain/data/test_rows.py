from __future__ import annotations

from array import array
from pathlib import Path

from datasets import Dataset, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from fttrain.data.limits import Measures
from fttrain.data.rows import RowWriter, duplicates, packed, shared
from fttrain.data.tokens import Example, IdAnswer, IdPair


def test_rows_are_counted_and_can_be_loaded(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "train", "sft")
    writer.add(Example([1, 2], [-100, 2]), Measures(2, 2, 1, truncated=False))
    writer.add(Example([1, 2, 3], [-100, 2, 3]), Measures(3, 3, 2, truncated=True))
    writer.close()
    rows = load_from_disk(str(tmp_path / "train"))
    assert rows[:] == {"input_ids": [[1, 2], [1, 2, 3]], "labels": [[-100, 2], [-100, 2, 3]]}
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    report = writer.report
    assert (report.rows, report.tokens, report.trained_tokens) == (2, 5, 3)
    assert (report.longest_row_tokens, report.truncated_rows) == (3, 1)


def test_pairs_have_the_columns_of_the_preference_collator(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "train", "dpo")
    writer.add(IdPair([1], [2], [3, 4]), Measures(3, 5, 3, truncated=False))
    writer.close()
    assert load_from_disk(str(tmp_path / "train"))[0] == {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3, 4]}


def test_a_reward_model_sees_whole_conversations(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "train", "reward")
    writer.add(IdPair([1], [2], [3, 4]).whole(), Measures(3, 5, 3, truncated=False))
    writer.close()
    assert load_from_disk(str(tmp_path / "train"))[0] == {"chosen_ids": [1, 2], "rejected_ids": [1, 3, 4]}


def test_labels_stay_true_or_false(tmp_path: Path) -> None:
    writer = RowWriter(tmp_path / "train", "kto")
    for label in (True, False):
        writer.add(IdAnswer([1], [2, 3], label), Measures(3, 3, 2, truncated=False))
    writer.close()
    assert load_from_disk(str(tmp_path / "train"))[:] == {
        "prompt_ids": [[1], [1]],
        "completion_ids": [[2, 3], [2, 3]],
        "label": [True, False],
    }


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_packed_rows_are_as_many_as_trl_makes(lengths: list[int]) -> None:
    rows = Dataset.from_dict({"input_ids": [list(range(length)) for length in lengths]})
    assert packed(lengths, 16) == len(pack_dataset(rows, 16, "bfd"))


def test_rows_that_are_there_already_and_rows_of_both_splits_are_counted() -> None:
    assert duplicates(array("Q", [5, 1, 5, 5, 2**64 - 1])) == 2
    assert shared(array("Q", [1, 1, 2, 3]), array("Q", [9, 1, 3])) == 3
    assert duplicates(array("Q")) == shared(array("Q"), array("Q", [1])) == 0
