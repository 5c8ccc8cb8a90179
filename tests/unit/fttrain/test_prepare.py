"""The preparation as a whole: what it writes, what it reports, what it refuses, and that it does nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from tests.support.models import smol_nano  # noqa: F401
from tests.support.preparation import ROWS, decoded, jsonl, order, prepared, rows_of, texts
from tests.support.training import (
    QUESTIONS,
    REJECTED,
    events,
    labelled_rows,
    of_kind,
    preference_rows,
    sft_rows,
    text_rows,
    whole_rows,
)

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2
from fttrain import rank
from fttrain.data import cache, workers
from fttrain.failure import Refused
from fttrain.prepare import Stopped

SHARED = Path(__file__).parents[3].parent / "shared" / "data"
EXAMPLES = Path(__file__).parents[3] / "examples" / "data"


@pytest.fixture
def model(smol_nano: Path) -> Path:  # noqa: F811
    return smol_nano


def refusal(message: trainer_pb2.Bootstrap) -> str:
    with pytest.raises(Refused) as refused:
        prepared(message)
    assert refused.value.failure_class == event_pb2.FAILURE_CLASS_DATA_INVALID
    assert refused.value.advice
    assert not list(Path(message.prepared_root).glob("*"))
    return refused.value.message


def test_rows_events_and_report_are_left(model: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "Name a colour.", "output": "Blue."}, {"instruction": "Name a fruit.", "output": ""}]
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows), ROWS / "sharegpt.json")
    result = prepared(message)

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert rows_of(result).column_names == ["input_ids", "labels"]
    report = result.data
    assert (report.train.rows, report.HasField("eval"), report.from_cache) == (2, False, False)
    assert [(s.format, s.rows_read, s.rows_used, s.rows_dropped) for s in report.sources] == [
        (training_pb2.FORMAT_ALPACA, 2, 1, 1),
        (training_pb2.FORMAT_SHAREGPT, 2, 1, 1),
    ]
    assert [(row.source, row.row, row.reason) for row in report.dropped] == [
        (0, 2, "column 'output' is empty"),
        (1, 2, "the row holds function calls, and the chat template does not render them"),
    ]
    assert Path(result.prepared_directory).name == report.digest
    assert json.loads((Path(result.prepared_directory) / "report.json").read_text())["digest"] == report.digest
    assert list(of_kind(events(tmp_path), "data")) == [report]
    assert "is read as alpaca" in next(of_kind(events(tmp_path), "notice")).text
    phases = [phase.phase for phase in of_kind(events(tmp_path), "phase")]
    assert phases[0] == event_pb2.PHASE_READING_DATA
    assert phases[-1] == event_pb2.PHASE_TOKENIZING


def test_equal_input_is_prepared_once_whatever_its_path(model: Path, tmp_path: Path) -> None:
    first = prepared(order(model, tmp_path, texts(tmp_path / "a.jsonl", 3)))
    again = prepared(order(model, tmp_path, texts(tmp_path / "b.jsonl", 3)))
    assert again.data.from_cache
    assert again.data.sources[0].path.endswith("b.jsonl")
    assert again.prepared_directory == first.prepared_directory


@pytest.mark.parametrize(
    "change",
    [
        "data { max_length: 511 }",
        "data { long_rows: LONG_ROWS_DROP }",
        "data { packing: true }",
        "data { strict: true }",
        "data { mixing: MIXING_INTERLEAVE_OVER }",
        "sft { train_on: TRAIN_ON_ALL }",
        "pretrain {}",
        "seed: 43",
    ],
)
def test_every_setting_that_matters_is_in_the_address(model: Path, tmp_path: Path, change: str) -> None:
    from google.protobuf import text_format

    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 3))
    first = prepared(message)
    text_format.Merge(change, message.spec)
    second = prepared(message)
    assert first.data.digest != second.data.digest
    assert not second.data.from_cache


def test_jobs_that_prepare_the_same_at_once_end_with_one_folder(model: Path, tmp_path: Path) -> None:
    path = texts(tmp_path / "a.jsonl", 3)
    barrier = threading.Barrier(2)
    found: list[str] = []

    def enter(job: str) -> None:
        with cache.new_entry(tmp_path / "prepared", "same", job) as folder:
            (folder / "report.json").write_text("{}")
            barrier.wait()
        found.append(job)

    threads = [threading.Thread(target=enter, args=(job,)) for job in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["a", "b"]
    assert [entry.name for entry in (tmp_path / "prepared").iterdir()] == ["same"]
    assert path.exists()


def test_what_a_killed_preparation_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".same.a"
    left.mkdir()
    (left / "half").touch()
    with cache.new_entry(tmp_path, "same", "a") as folder:
        (folder / "report.json").write_text("{}")
    assert [path.name for path in (tmp_path / "same").iterdir()] == ["report.json"]
    assert not left.exists()


def test_weights_repeat_and_thin_out(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 4), texts(tmp_path / "b.jsonl", 10))
    message.spec.data.train[0].weight = 2
    message.spec.data.train[1].weight = 0.5
    message.spec.data.train[1].max_samples = 6
    report = prepared(message).data
    assert report.train.rows == 4 * 2 + 3
    assert [source.rows_used for source in report.sources] == [4, 3]


def test_rows_held_back_are_not_trained_on(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 10))
    message.spec.data.train[0].weight = 2
    message.spec.data.train[0].eval_split = 0.3
    result = prepared(message)
    train, held = decoded(result, model), decoded(result, model, "eval")
    assert (len(train), len(held), result.data.eval.rows) == (14, 3, 3)
    assert not set(train) & set(held)


def test_evaluation_sources_are_a_split_of_their_own(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 2))
    message.spec.data.eval.add(path=str(ROWS / "text.txt"), weight=1)
    result = prepared(message)
    assert len(decoded(result, model, "eval")) == result.data.eval.rows == 2
    assert result.data.sources[1].path == str(ROWS / "text.txt")


def test_pairs_are_prepared_for_dpo(model: Path, tmp_path: Path) -> None:
    result = prepared(order(model, tmp_path, ROWS / "preference_turns.jsonl", stage="dpo"))
    assert rows_of(result).column_names == ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert result.data.train.rows == 2


def test_answers_with_a_label_are_prepared_for_kto(model: Path, tmp_path: Path) -> None:
    result = prepared(order(model, tmp_path, ROWS / "kto.jsonl", stage="kto"))
    assert rows_of(result).column_names == ["prompt_ids", "completion_ids", "label"]
    assert rows_of(result)["label"] == [True, False]
    assert [(row.row, row.reason) for row in result.data.dropped] == [
        (3, "column 'label' is a string; accepted is true or false")
    ]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("sft", sft_rows),
        ("pretrain", text_rows),
        ("dpo", preference_rows),
        ("orpo", preference_rows),
        ("cpo", preference_rows),
        ("reward", whole_rows),
        ("kto", labelled_rows),
    ],
)
def test_the_ids_are_those_of_the_tokenizer_and_template_alone(
    model: Path, tmp_path: Path, stage: str, expected: Any
) -> None:
    from transformers import AutoTokenizer

    rows: dict[str, list[Any]] = {
        "sft": [{"instruction": question, "output": answer} for question, answer in QUESTIONS],
        "pretrain": [{"text": f"{question} {answer}"} for question, answer in QUESTIONS],
        "kto": [
            {"instruction": question, "output": text, "label": text == answer}
            for question, answer in QUESTIONS
            for text in (answer, REJECTED)
        ],
    }
    pairs = [{"instruction": question, "chosen": answer, "rejected": REJECTED} for question, answer in QUESTIONS]
    result = prepared(order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows.get(stage, pairs)), stage=stage))
    assert rows_of(result).to_list() == expected(AutoTokenizer.from_pretrained(model))


PROMPTS = {
    "prompt": {"prompt": [{"role": "user", "content": "What is a queue?"}], "answer": "A line."},
    "alpaca": {"instruction": "What is a queue?", "output": "A line."},
    "messages": {
        "messages": [{"role": "user", "content": "What is a queue?"}, {"role": "assistant", "content": "A line."}]
    },
}


@pytest.mark.parametrize("row", PROMPTS.values(), ids=PROMPTS)
def test_a_row_is_a_prompt_with_its_answer_beside_it(row: dict[str, Any], model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    message = asking(model, tmp_path, row)
    result = prepared(message)
    [found] = rows_of(result).to_list()
    turns = [{"role": "user", "content": "What is a queue?"}]
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert found == {"prompt": prompt, "answer": "A line."}
    # What memory is estimated for.
    assert result.data.train.longest_row_tokens == len(prompt) + 16


def test_plain_prompts_go_as_they_are_and_need_no_answer(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    message = asking(model, tmp_path, {"prompt": "Once upon a"}, {"prompt": "", "answer": "x"}, {"prompt": "a " * 500})
    result = prepared(message)
    ids = AutoTokenizer.from_pretrained(model)("Once upon a")["input_ids"]
    assert rows_of(result).to_list() == [{"prompt": ids, "answer": ""}]
    assert [(row.row, row.reason) for row in result.data.dropped] == [
        (2, "column 'prompt' is empty"),
        (3, "the prompt has 501 tokens; 496 leave room for the answer"),
    ]


def test_a_reward_that_compares_needs_answers(model: Path, tmp_path: Path) -> None:
    message = asking(model, tmp_path, {"prompt": "2 + 2 =", "answer": "4"}, {"prompt": "3 + 3 ="})
    message.spec.grpo.rewards.add().exact_answer.SetInParent()
    result = prepared(message)
    assert rows_of(result)["answer"] == ["4"]
    assert [(row.row, row.reason) for row in result.data.dropped] == [
        (2, "the row has no answer, which the reward exact_answer compares with")
    ]


def asking(model: Path, folder: Path, *rows: dict[str, Any]) -> trainer_pb2.Bootstrap:
    """An order to prepare the rows for grpo with answers of 16 tokens."""
    message = order(model, folder, jsonl(folder / "asked.jsonl", rows), stage="grpo")
    message.spec.grpo.sampling.max_completion_length = 16
    message.spec.data.long_rows = training_pb2.LONG_ROWS_DROP
    return message


def test_packed_rows_are_counted_as_the_trainer_will_see_them(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 40), stage="pretrain")
    message.spec.data.packing = True
    message.spec.data.max_length = 64
    result = prepared(message)
    assert len(rows_of(result)) == 40
    assert result.data.train.rows == -(-result.data.train.tokens // 64)


def test_another_chat_template_can_be_given(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, ROWS / "messages.jsonl")
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
                        "{% if add_generation_prompt %}[assistant] {% endif %}")  # fmt: skip
    message.spec.data.chat_template_path = str(template)
    assert decoded(prepared(message), model)[0] == "[user] What is two and two?[assistant] Four."
    message.spec.data.chat_template_path = str(tmp_path / "gone.jinja")
    assert refusal_of_template(message) == f"data.chat_template_path: {tmp_path}/gone.jinja cannot be read"


def refusal_of_template(message: trainer_pb2.Bootstrap) -> str:
    with pytest.raises(Refused) as refused:
        prepared(message)
    return refused.value.message.partition(": [")[0]


@pytest.mark.parametrize(
    ("stage", "name", "expected"),
    [
        ("dpo", "alpaca.jsonl", "alpaca.jsonl holds alpaca rows; the stage dpo takes preference"),
        ("pretrain", "alpaca.jsonl", "alpaca.jsonl holds alpaca rows; the stage pretrain takes text"),
        ("kto", "preference_turns.jsonl", "preference_turns.jsonl holds preference rows; the stage kto takes kto"),
        ("reward", "alpaca.jsonl", "alpaca.jsonl holds alpaca rows; the stage reward takes preference"),
        ("sft", "preference_turns.jsonl", "preference_turns.jsonl holds preference rows; the stage sft takes alpaca"),
    ],
)
def test_a_format_that_the_stage_cannot_use_is_refused(
    model: Path, tmp_path: Path, stage: str, name: str, expected: str
) -> None:
    assert refusal(order(model, tmp_path, ROWS / name, stage=stage)).startswith(f"data.train[0]: {expected}")


def test_long_rows_are_refused_by_number(model: Path, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "short"}, {"text": "long " * 50}, {"text": "long " * 60}])
    message = order(model, tmp_path, path)
    message.spec.data.max_length = 16
    message.spec.data.long_rows = training_pb2.LONG_ROWS_REFUSE
    assert refusal(message) == "data.train[0]: a.jsonl has 2 rows over data.max_length 16, numbered 2, 3"
    message.spec.data.long_rows = training_pb2.LONG_ROWS_TRUNCATE
    report = prepared(message).data
    assert (report.train.truncated_rows, report.train.longest_row_tokens) == (2, 16)


def test_data_in_which_no_token_is_trained_on_is_refused_with_the_reason(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, ROWS / "alpaca.jsonl")
    message.spec.data.max_length = 8
    assert refusal(message) == (
        "data.train[0]: alpaca.jsonl: no row has a token to train on; 3 of 3 rows, e.g. row 1: "
        "no token of its first 8 tokens (data.max_length) is trained on"
    )


def test_one_row_cannot_be_split(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 1))
    message.spec.data.train[0].eval_split = 0.5
    assert refusal(message) == "data.eval_split: there is one row, which cannot be split"


def test_a_request_to_stop_ends_it(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rank.StopRequests()
    asked.ask()
    monkeypatch.setattr(rank, "stops", asked)
    message = order(model, tmp_path, texts(tmp_path / "a.jsonl", 1))
    with pytest.raises(Stopped):
        prepared(message)
    assert not Path(message.prepared_root).exists()


def as_a_rank(message: trainer_pb2.Bootstrap, *options: str) -> tuple[trainer_pb2.RankResult, str]:
    """The last word of `python -m fttrain.prepare`, and what it printed."""
    folder = Path(message.run_directory) / "attempts" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.run(
        [sys.executable, *options, "-m", "fttrain.prepare"],
        input=message.SerializeToString(),
        capture_output=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
    )
    result = json_format.Parse((folder / "rank-0.json").read_text(), trainer_pb2.RankResult())
    assert process.returncode == (result.outcome == event_pb2.OUTCOME_FAILED)
    return result, process.stderr.decode()


def imported(log: str) -> set[str]:
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in log.splitlines() if "import time:" in line}


def test_as_a_rank_it_never_loads_torch(model: Path, tmp_path: Path) -> None:
    result, log = as_a_rank(order(model, tmp_path, ROWS / "messages.jsonl"), "-X", "importtime")
    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert result.data.train.rows == 2
    assert "transformers" in imported(log)
    assert "torch" not in imported(log)


def test_bad_input_is_told_before_any_library_is_loaded(model: Path, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "a"}, '{"text": '])
    result, log = as_a_rank(order(model, tmp_path, path), "-X", "importtime")
    assert result.failure.failure_class == event_pb2.FAILURE_CLASS_DATA_INVALID
    assert result.failure.message == "data.train[0]: a.jsonl line 2 is not valid JSON: Expecting value at column 10"
    assert not {"transformers", "datasets", "pyarrow", "numpy"} & imported(log)


@pytest.mark.parametrize(
    ("name", "stage", "read", "used"),
    [
        ("identity.json", "sft", 91, 91),
        ("alpaca_en_selfinstruct_seeds.json", "sft", 175, 175),
        ("alpaca_zh_glaive.json", "sft", 201, 201),
        ("sharegpt_fastchat_dummy_en.json", "sft", 500, 500),
        ("glaive_toolcall_en_demo.json", "sft", 300, None),
        ("openai_messages_en.jsonl", "sft", 200, 200),
        ("kto_en_demo.json", "sft", 300, 300),
        ("kto_en_demo.json", "kto", 300, 300),
        ("dpo_en_demo.json", "reward", 300, 300),
        ("dpo_en_demo.json", "orpo", 300, 300),
        ("dpo_en_demo.json", "dpo", 300, 300),
        ("dpo_alpaca_pairs_en.json", "dpo", 60, 60),
        ("pt_c4_demo_100.jsonl", "pretrain", 100, 100),
        ("pt_tinyshakespeare.txt", "pretrain", None, None),
    ],
)
def test_real_data_sets_are_read(
    model: Path, tmp_path: Path, name: str, stage: str, read: int | None, used: int | None
) -> None:
    if not (SHARED / name).exists():
        pytest.skip("the real data sets are kept beside the repository, not in it")
    message = order(model, tmp_path, SHARED / name, stage=stage)
    message.spec.data.max_length = 8192
    source = prepared(message).data.sources[0]
    assert source.rows_read == (read or source.rows_read)
    assert source.rows_used == (used or source.rows_used)
    assert source.rows_used + source.rows_dropped == source.rows_read
    assert source.rows_used > 0


def test_dropped_rows_are_listed_in_order_and_cut_at_a_hundred(model: Path, tmp_path: Path) -> None:
    # Odd rows fall in the first reading, every fourth in the second.
    rows: list[Any] = [{"text": ("" if n % 2 else "long " * 40 if n % 4 == 0 else "ok")} for n in range(1, 301)]
    message = order(model, tmp_path, jsonl(tmp_path / "a.jsonl", rows))
    message.spec.data.max_length = 16
    message.spec.data.long_rows = training_pb2.LONG_ROWS_DROP
    report = prepared(message).data
    assert [row.row for row in report.dropped] == [n for n in range(1, 301) if n % 4 != 2][:100]
    assert report.sources[0].rows_dropped == 225


@pytest.mark.parametrize(("kind", "stage"), [("alpaca", "sft"), ("messages", "sft"), ("preference", "dpo")])
def test_no_row_of_the_examples_is_left_out(model: Path, tmp_path: Path, kind: str, stage: str) -> None:
    path = EXAMPLES / f"finetuned-qa.{kind}.jsonl"
    source = prepared(order(model, tmp_path, path, stage=stage)).data.sources[0]
    assert source.rows_used == source.rows_read == len(path.read_text().splitlines())


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_rows_are_the_same_however_many_processes_encode_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(workers, "WORTH_ROWS", 600)
    rows = [
        {"instruction": f"Say {n}.", "output": f"{n}!", "chosen": f"{n}!", "rejected": "" if n % 7 else "No."}
        for n in range(1200)
    ]
    path = jsonl(tmp_path / "a.jsonl", [{"instruction": f"Say {n}."} | rows[n] for n in range(1200)])
    found = []
    for threads in (1, 3):
        message = order(model, tmp_path / str(threads), path, stage=stage)
        message.spec.data.train[0].format = (
            training_pb2.FORMAT_PREFERENCE if stage == "dpo" else training_pb2.FORMAT_ALPACA
        )
        message.threads = threads
        Path(message.run_directory).mkdir()
        result = prepared(message)
        found.append((rows_of(result).to_list(), result.data))
    assert found[0] == found[1]
    assert len(found[0][0]) == (1200 if stage == "sft" else 172)


def test_an_evaluation_has_rows_to_evaluate_on_alone(model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, stage="evaluate")
    rows = jsonl(tmp_path / "a.jsonl", [{"prompt": "Name a colour.", "completion": "Blue."}, {"text": "No prompt."}])
    message.spec.data.eval.add(path=str(rows), name="colours")
    result = prepared(message)
    assert not result.data.HasField("train")
    assert [(each.name, each.rows) for each in result.data.evaluation_sets] == [("colours", 1)]
    assert {path.name for path in Path(result.prepared_directory).iterdir()} == {"eval", "report.json", "dropped.jsonl"}
    [row] = rows_of(result, "eval")
    # As in a training: the loss is of the answer.
    assert 0 < sum(label != -100 for label in row["labels"]) < len(row["labels"])
    assert prepared(message).data.from_cache


@pytest.mark.parametrize("stage", ["export", "chat"])
def test_a_stage_without_rows_is_told_where_its_weights_come_from(stage: str, model: Path, tmp_path: Path) -> None:
    message = order(model, tmp_path, stage=stage)
    result = prepared(message)
    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert result.lineage.base_model == str(model)
    assert len(result.lineage.base_digest) == 64
    # Something: what is prepared is not prepared again.
    assert result.prepared_directory
    assert not Path(message.prepared_root).exists()
