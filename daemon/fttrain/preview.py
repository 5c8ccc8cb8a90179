"""Rows as they would be trained on, for a person to look at: the text of their tokens, and which of them are trained.

What is shown is decoded from the ids and the labels that the preparation would write, by the same code. It must never
show more than one message may hold, however long the rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_preview_pb2, training_pb2
from fttrain.data.forms import Form
from fttrain.data.limits import fitted
from fttrain.data.problems import BadRow, counted, refused
from fttrain.data.sources import Source
from fttrain.data.tokens import NOT_TRAINED, Encoded, Example, IdAnswer, IdPair, IdPrompt, Tokens

# Over all rows; with their texts they are 2 MB at most.
_MOST_TOKENS = 60_000
# Rows without a use that are passed over in search of one.
_MOST_PASSED = 1000
_Sequence = tuple[str, list[int], list[bool]]


def preview(
    source: Source, tokens: Tokens, data: training_pb2.Data, wanted: trainer_pb2.Preview
) -> list[data_preview_pb2.PreviewedRow]:
    """The wanted rows of a source whose format is told. Raises Refused when there are none."""
    shown: list[data_preview_pb2.PreviewedRow] = []
    room = _MOST_TOKENS
    for row in _rows(source, tokens, data, wanted):
        for sequence in row.sequences:
            _shorten(row, sequence, room)
            room -= len(sequence.input_ids)
        shown.append(row)
        if len(shown) == wanted.rows or room <= 0:
            break
    if not shown:
        rows = counted(sum(1 for _ in source.outcomes()))
        what = f"has no row {wanted.row}; it has {rows}" if wanted.row else f"has no row that can be used among {rows}"
        raise refused(f"{source.where} {what}", "name another row, see why with row 1, or check the data")
    return shown


def _rows(
    source: Source, tokens: Tokens, data: training_pb2.Data, wanted: trainer_pb2.Preview
) -> Iterator[data_preview_pb2.PreviewedRow]:
    """From the wanted row on; without a wanted one those that can be used."""
    passed = 0
    for (file, number), form in source.outcomes():
        if number < wanted.row:
            continue
        row = _row(form, tokens, data, source)
        row.source, row.path, row.row = source.field, str(file.path), number
        if wanted.row or not row.dropped:
            yield row
        elif (passed := passed + 1) == _MOST_PASSED:
            return


def _row(form: Form | BadRow, tokens: Tokens, data: training_pb2.Data, source: Source) -> data_preview_pb2.PreviewedRow:
    if isinstance(form, BadRow):
        return data_preview_pb2.PreviewedRow(dropped=str(form))
    tokens.need_template(form, source.where)
    tokens.forget_remarks()
    [encoded] = tokens.encode_all([form])
    if isinstance(encoded, BadRow):
        return data_preview_pb2.PreviewedRow(dropped=str(encoded))
    row = data_preview_pb2.PreviewedRow(remarks=tokens.forget_remarks())
    kept: Encoded = encoded
    try:
        kept, _ = fitted(encoded, data.max_length, data.long_rows)
    except BadRow as bad:
        row.dropped = str(bad)
    for (name, ids, trained), (_, whole, _) in zip(_sequences(kept), _sequences(encoded), strict=True):
        runs = _runs(tokens, ids, trained)
        cut = len(whole) - len(ids)
        row.sequences.add(name=name, runs=runs, cut_tokens=cut, input_ids=ids, trained=trained)
    return row


def _sequences(row: Encoded) -> list[_Sequence]:
    """The sequences of a row, each with its name, its ids and which of them are trained on."""
    match row:
        case Example():
            return [("", row.input_ids, [label != NOT_TRAINED for label in row.labels])]
        case IdPrompt():
            return [("prompt", row.prompt, [False] * len(row.prompt))]
        case IdAnswer():
            answers = {"good answer" if row.label else "bad answer": row.completion_ids}
        case IdPair():
            answers = {"chosen": row.chosen_ids, "rejected": row.rejected_ids}
    prompt = row.prompt_ids
    return [(name, prompt + ids, [False] * len(prompt) + [True] * len(ids)) for name, ids in answers.items()]


def _runs(tokens: Tokens, ids: Sequence[int], trained: Sequence[bool]) -> Iterator[data_preview_pb2.PreviewedRun]:
    """Runs of equal fate. A run's text is what it adds: alone, a tokenizer may decode it without its white space."""
    start, before = 0, ""
    while start < len(ids):
        stop = next((i for i in range(start, len(ids)) if trained[i] != trained[start]), len(ids))
        text = tokens.decode(ids[:stop])
        yield data_preview_pb2.PreviewedRun(text=text[len(before) :], trained=trained[start], tokens=stop - start)
        start, before = stop, text


def _shorten(row: data_preview_pb2.PreviewedRow, sequence: Any, room: int) -> None:
    if len(sequence.input_ids) <= room:
        return
    row.remarks.append(
        f"of {sequence.name or 'it'} only the beginning is shown: it has {len(sequence.input_ids)} tokens"
    )
    del sequence.input_ids[max(0, room) :]
    del sequence.trained[max(0, room) :]
    left = max(0, room)
    for index, run in enumerate(sequence.runs):
        if run.tokens > left:
            run.text = run.text[: int(len(run.text) * left / run.tokens)]
            run.tokens = left
            del sequence.runs[index + 1 :]
            return
        left -= run.tokens
