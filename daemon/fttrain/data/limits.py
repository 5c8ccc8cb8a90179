"""What becomes of a row over data.max_length, and whether enough of it is left to train on. Pure: ids in, ids out."""

from __future__ import annotations

from dataclasses import dataclass

from finetuned.v1 import training_pb2
from fttrain.data.problems import BadRow
from fttrain.data.tokens import NOT_TRAINED, Example, IdAnswer, IdPair, IdPrompt

Answered = Example | IdPair | IdAnswer
Row = Answered | IdPrompt


class TooLong(BadRow):
    """A row over the limit where the spec says to drop or to refuse such rows."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Token counts of a row. Of a pair, `tokens` counts the prompt twice, as the model sees it.

    Of a prompt, the room for an answer is counted with it.
    """

    longest: int
    tokens: int
    trained: int
    truncated: bool


def fitted(row: Row, limit: int, policy: training_pb2.LongRows.ValueType) -> tuple[Row, Measures]:
    """The row as it is trained on, and its measures. Raises BadRow when it is left out."""
    if isinstance(row, IdPrompt):
        return _prompt(row, limit)
    length = _longest(row)
    truncated = length > limit
    if truncated and policy != training_pb2.LONG_ROWS_TRUNCATE:
        raise TooLong(f"the row has {length} tokens; data.max_length is {limit}")
    if truncated:
        row = _cut(row, limit)
    trained = _trained(row)
    if not trained:
        where = f"its first {limit} tokens (data.max_length)" if truncated else "it"
        raise BadRow(f"no token of {where} is trained on")
    longest = _longest(row)
    tokens = 2 * len(row.prompt_ids) + trained if isinstance(row, IdPair) else longest
    return row, Measures(longest, tokens, trained, truncated)


def _prompt(row: IdPrompt, limit: int) -> tuple[IdPrompt, Measures]:
    whole = len(row.prompt) + row.room
    if whole > limit:
        raise TooLong(f"the prompt has {len(row.prompt)} tokens; {limit - row.room} leave room for the answer")
    return row, Measures(whole, whole, row.room, truncated=False)


def _longest(row: Answered) -> int:
    if isinstance(row, Example):
        return len(row.input_ids)
    if isinstance(row, IdAnswer):
        return len(row.prompt_ids) + len(row.completion_ids)
    return len(row.prompt_ids) + max(len(row.chosen_ids), len(row.rejected_ids))


def _cut(row: Answered, limit: int) -> Answered:
    if isinstance(row, Example):
        return Example(row.input_ids[:limit], row.labels[:limit])
    room = max(0, limit - len(row.prompt_ids))
    if isinstance(row, IdAnswer):
        return IdAnswer(row.prompt_ids, row.completion_ids[:room], row.label)
    return IdPair(row.prompt_ids, row.chosen_ids[:room], row.rejected_ids[:room])


def _trained(row: Answered) -> int:
    """Tokens the loss is computed on; of preferences, the answers'. The first of a sequence is predicted by nothing."""
    if isinstance(row, Example):
        return len(row.labels) - row.labels.count(NOT_TRAINED) - (row.labels[:1] not in ([], [NOT_TRAINED]))
    if isinstance(row, IdAnswer):
        return len(row.completion_ids)
    return len(row.chosen_ids) + len(row.rejected_ids) if row.chosen_ids and row.rejected_ids else 0
