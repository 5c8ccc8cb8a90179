from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.preparation import ROWS, jsonl

from finetuned.v1 import training_pb2
from fttrain.data.dropped import Dropped
from fttrain.data.forms import Chat, Form, Labelled, Pair, Plain
from fttrain.data.sources import Source
from fttrain.failure import Refused

HELLO = {"role": "user", "content": "Greet me."}


LISTS: list[Dropped] = []


def source(path: Path, **fields: Any) -> Source:
    given = training_pb2.DataSource(path=str(path), **fields)
    LISTS.append(Dropped(path.with_name("dropped.jsonl")))
    return Source(given, "data.train[0]", 0, LISTS[-1], fields.get("files", [str(path)]))


@pytest.fixture(autouse=True)
def closed_lists() -> Iterator[None]:
    yield
    while LISTS:
        LISTS.pop().__exit__(None, None, None)


def read(path: Path, taken: Collection[str] = (), **fields: Any) -> tuple[str, list[Form], list[tuple[int, str]]]:
    """The format's name, the usable rows and the dropped ones."""
    it = source(path, **fields)
    it.tell(taken)
    it.check(lambda: None)
    forms = [form for _, form in it.forms(lambda: None)]
    assert it.rows_read == it.usable + it.rows_dropped
    return it.layout.name, forms, [(row.row, row.reason) for row in it._dropped.shown]


def reason(tmp_path: Path, row: Any, taken: Collection[str] = (), **fields: Any) -> str:
    """Why a row is left out, beside a good one of the same format."""
    good = {
        "messages": [HELLO, {"role": "assistant", "content": "Hi."}],
        "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
        "instruction": "a", "output": "b", "text": "a",
        "prompt": "a", "completion": "b", "chosen": "b", "rejected": "c", "label": True,
    }  # fmt: skip
    columns = row if isinstance(row, dict) else ["text"]
    _, forms, dropped = read(jsonl(tmp_path / "rows.jsonl", [{k: good.get(k) for k in columns}, row]), taken, **fields)
    assert len(forms) == 1
    ((number, text),) = dropped
    assert number == 2
    return text


def refusal(path: Path, **fields: Any) -> str:
    with pytest.raises(Refused) as refused:
        read(path, **fields)
    assert "\n" not in refused.value.message
    assert refused.value.advice
    return refused.value.message


def test_alpaca_rows_become_conversations_with_system_and_history() -> None:
    name, forms, dropped = read(ROWS / "alpaca.jsonl")
    assert (name, dropped) == ("alpaca", [])
    assert forms[0] == Chat([{"role": "user", "content": "Name a colour."}, {"role": "assistant", "content": "Blue."}])
    assert [(m["role"], m["content"]) for m in forms[1].messages] == [  # type: ignore[union-attr]
        ("system", "You translate."),
        ("user", "Translate to German: milk"),
        ("assistant", "Milch"),
        ("user", "Translate to German.\nbread"),
        ("assistant", "Brot"),
    ]


def test_sharegpt_calls_become_tool_calls() -> None:
    name, forms, _ = read(ROWS / "sharegpt.json")
    chat = forms[1]
    assert isinstance(chat, Chat)
    assert name == "sharegpt"
    assert [m["role"] for m in chat.messages] == ["user", "assistant", "tool", "assistant"]
    call = {"type": "function", "function": {"name": "clock", "arguments": {"city": "Oslo"}}}
    assert chat.messages[1]["tool_calls"] == [call]
    assert chat.tools is not None
    assert chat.tools[0]["function"]["name"] == "clock"


def test_a_weight_of_zero_mutes_a_turn() -> None:
    name, forms, _ = read(ROWS / "messages.jsonl")
    assert name == "messages"
    wishes = [[message.get("train") for message in form.messages] for form in forms if isinstance(form, Chat)]
    assert [set(each) for each in wishes] == [{None}, {None, False}]


def test_plain_formats() -> None:
    assert read(ROWS / "prompt_completion.csv")[:2] == (
        "prompt_completion",
        [Plain("The sky, seen from below, is", "  blue"), Plain("Grass is", " green")],
    )
    name, forms, _ = read(ROWS / "text.txt")
    assert name == "text"
    assert forms == [Plain("", "The first paragraph\nhas two lines."), Plain("", "The second has one.")]


def test_preference_rows_in_every_spelling() -> None:
    pair = Pair(
        [HELLO], [{"role": "assistant", "content": "Good morning!"}], [{"role": "assistant", "content": "Go away."}]
    )
    assert read(ROWS / "preference_strings.jsonl")[:2] == ("preference", [pair])
    assert read(ROWS / "preference_turns.jsonl")[1] == [pair, pair]


def test_a_prompt_in_plain_text_stays_plain_when_the_answers_are(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert read(jsonl(tmp_path / "a.jsonl", [row]))[1] == [Pair("a", "b", "c")]
    turn = {"role": "assistant", "content": "b"}
    (pair,) = read(jsonl(tmp_path / "a.jsonl", [row | {"chosen": [turn]}]))[1]
    assert isinstance(pair, Pair)
    assert pair.prompt == [{"role": "user", "content": "a"}]


def test_columns_are_found_under_the_names_of_the_spec(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"question": "a", "answer": "b"}])
    columns = training_pb2.Columns(instruction="question", output="answer")
    assert read(path, columns=columns)[0] == "alpaca"
    turns = [{"speaker": "human", "says": "a"}, {"speaker": "gpt", "says": "b"}]
    path = jsonl(tmp_path / "b.jsonl", [{"dialog": turns}])
    columns = training_pb2.Columns(messages="dialog", role="speaker", content="says")
    assert isinstance(read(path, columns=columns, format=training_pb2.FORMAT_MESSAGES)[1][0], Chat)


def test_only_so_many_rows_as_asked_are_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": ""}, {"text": "a"}, {"text": "b"}, {"text": "c"}])
    assert read(path, max_samples=2) == ("text", [Plain("", "a"), Plain("", "b")], [(1, "column 'text' is empty")])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("[1]", "the row is a list; accepted is an object"),
        ({"instruction": "a", "output": ""}, "column 'output' is empty"),
        ({"instruction": "a", "output": None}, "column 'output' is null"),
        ({"instruction": " ", "output": "b"}, "column 'instruction' is empty"),
        ({"instruction": 7, "output": "b"}, "column 'instruction' is a number; accepted is a string"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, "round 1 of 'history' is not a pair of strings"),
        ({"conversations": []}, "column 'conversations' is an empty list"),
        ({"conversations": "{"}, "column 'conversations' is a string that is not JSON"),
        ({"conversations": [{"from": "humam", "value": "a"}]}, "has the unknown role 'humam'; did you mean 'human'"),
        ({"conversations": [{"from": "human", "value": 1}]}, "'value' of turn 1 of 'conversations' is a number"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
            "part 2 of 'content' of turn 1 of 'messages' is image_url; accepted is a string, or parts of type text",
        ),
        ({"messages": [{"role": "user"}]}, "'content' of turn 1 of 'messages' is missing (the turn has role)"),
        ({"messages": ["a"]}, "turn 1 of 'messages' is a string; accepted is an object with role and content"),
        ({"messages": [HELLO]}, "the last turn is the user's; accepted is one of the assistant"),
        ({"messages": [HELLO, HELLO]}, "turn 2 is the user's, after the user's; accepted there is assistant"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "turn 1 is the tool's, first; accepted there is system"),
        ({"messages": [HELLO, {"role": "assistant", "content": " "}]}, "'content' of turn 2 of 'messages' is empty"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"chosen": "b", "rejected": "c", "prompt": None}, "the row has no prompt"),
        ({"prompt": "a", "completion": ""}, "column 'completion' is empty"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_left_out_with_the_reason(tmp_path: Path, row: Any, expected: str) -> None:
    assert expected in reason(tmp_path, row)


def test_a_missing_column_of_one_row_names_what_the_row_has(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"instruction": "a", "output": "b"}, {"instruction": "a", "ouput": "b"}])
    _, _, dropped = read(path)
    assert dropped == [(2, "column 'output' is missing; the row has instruction, ouput; did you mean 'ouput'")]


def test_wrong_columns_are_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"instruction": "a", "outputt": "b"}])
    message = refusal(path)
    assert message.startswith("data.train[0]: a.jsonl: no format is told by its columns instruction, outputt")
    assert "did you mean 'output' by 'outputt'" in message
    assert "alpaca (instruction, output)" in message
    assert refusal(path, format=training_pb2.FORMAT_ALPACA) == (
        "data.train[0]: a.jsonl has no column 'output', which alpaca rows need; "
        "it has instruction, outputt; did you mean 'outputt'"
    )
    assert refusal(path, columns=training_pb2.Columns(output="outputs")) == (
        "data.train[0].columns.output: a.jsonl has no column 'outputs'; "
        "it has instruction, outputt; did you mean 'outputt'"
    )


def test_a_column_that_the_format_does_not_have_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    assert refusal(path, columns=training_pb2.Columns(text="text", system="text")) == (
        "data.train[0].columns.system: text rows have no system; accepted are text"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "data.train[0]: a.jsonl has no rows"),
        (["[]"], "data.train[0]: a.jsonl row 1 is a list; accepted are objects with columns"),
        (
            [{"text": ""}, {"text": "  "}],
            "data.train[0]: a.jsonl: no row can be used; 2 of 2 rows, e.g. row 1: column 'text' is empty",
        ),
    ],
)
def test_a_file_without_a_usable_row_is_refused(tmp_path: Path, lines: list[Any], message: str) -> None:
    assert refusal(jsonl(tmp_path / "a.jsonl", lines)) == message


ANSWERED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": ANSWERED, "label": True}, Labelled(ANSWERED[:1], ANSWERED[1:], True)),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "label": False},
            Labelled(ANSWERED[:1], ANSWERED[1:], False),
        ),
        ({"instruction": "a", "output": "b", "label": True}, Labelled(ANSWERED[:1], ANSWERED[1:], True)),
        ({"prompt": "a", "completion": "b", "label": False}, Labelled("a", "b", False)),
        ({"prompt": ANSWERED[:1], "completion": "b", "label": True}, Labelled(ANSWERED[:1], ANSWERED[1:], True)),
        ({"prompt": "a", "completion": ANSWERED[1:], "label": True}, Labelled(ANSWERED[:1], ANSWERED[1:], True)),
    ],
    ids=["messages", "conversations", "alpaca", "text", "turns and text", "text and turns"],
)
def test_answers_with_a_label(tmp_path: Path, row: dict[str, Any], form: Labelled) -> None:
    assert read(jsonl(tmp_path / "a.jsonl", [row]), ("kto",)) == ("kto", [form], [])


def test_labels_in_a_csv_file_are_words(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,good\na,b,True\na,c,false\na,d,maybe\n")
    columns = training_pb2.Columns(label="good")
    name, forms, dropped = read(tmp_path / "a.csv", ("kto",), columns=columns)
    assert (name, forms) == ("kto", [Labelled("a", "b", True), Labelled("a", "c", False)])
    assert dropped == [(3, "column 'good' is a string; accepted is true or false")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "a", "completion": "b", "label": 1}, "column 'label' is a number; accepted is true or false"),
        ({"prompt": "a", "completion": "b", "label": None}, "column 'label' is null"),
        ({"messages": ANSWERED[:1], "label": True}, "the last turn is the user's; accepted is one of the assistant"),
        ({"prompt": "a", "label": True, "completion": None}, "the row has no answer; accepted is completion, output, "),
    ],
)
def test_a_label_without_sense_is_told(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    assert reason(tmp_path, row, ("kto",)).startswith(expected)


def test_a_label_is_only_told_where_the_stage_trains_on_such_rows(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "a", "label": "spam"}])
    assert read(path, ("text",))[0] == "text"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"data\.train\[0\]: gone\.jsonl cannot be read: No such file or directory"):
        source(tmp_path / "gone.jsonl")


def test_a_file_that_changes_between_the_readings_is_refused(tmp_path: Path) -> None:
    it = source(jsonl(tmp_path / "a.jsonl", [{"text": "a"}]))
    it.tell(())
    it.check(lambda: None)
    jsonl(tmp_path / "a.jsonl", [{"text": "b"}, {"text": "c"}])
    with pytest.raises(Refused, match="changed while it was read"):
        list(it.forms(lambda: None))


def test_what_is_said_may_come_in_parts_of_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Greet "}, {"type": "text", "text": "me."}]
    row = {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "Hi."}]}
    _, [form], _ = read(jsonl(tmp_path / "a.jsonl", [row]))
    assert form == Chat([HELLO, {"role": "assistant", "content": "Hi."}])


def test_prompt_and_completion_may_be_turns_of_which_the_completion_is_trained_on(tmp_path: Path) -> None:
    hi, bye = ({"role": "assistant", "content": text} for text in ("Hi.", "Bye."))
    rows = [{"prompt": [HELLO, hi, HELLO], "completion": [bye]}, {"prompt": "Greet me.", "completion": [bye]}]
    name, forms, _ = read(jsonl(tmp_path / "a.jsonl", rows))
    assert name == "prompt_completion"
    assert forms == [Chat([HELLO, {**hi, "train": False}, HELLO, bye]), Chat([HELLO, bye])]
