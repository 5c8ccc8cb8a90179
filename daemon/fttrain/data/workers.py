"""Encodes batches of rows in processes of their own, as many as the job may use, and gives them back in order.

Rendering a conversation holds Python's lock, so threads would not do. The processes are copies of this one and share
its tokenizer's memory; they read no file and write none. It must never hold more batches than keep them busy.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from fttrain.data.forms import Form
from fttrain.data.problems import BadRow
from fttrain.data.tokens import Encoded, Tokens

# More hardly help one process that reads and writes.
_MOST = 8
# A copy of the process costs more than fewer rows do.
WORTH_ROWS = 5000
_BATCHES_PER_WORKER = 2
T = TypeVar("T")
Batch = Sequence[tuple[T, Form]]
Answer = tuple[list[Encoded | BadRow], Counter[str]]


def processes(threads: int, rows: int) -> int:
    """How many to use for so many rows; `threads`: what the job may use, 0: all there is."""
    return min(_MOST, threads or len(os.sched_getaffinity(0))) if rows >= WORTH_ROWS else 1


def encoded(
    tokens: Tokens, batches: Iterable[Batch[T]], workers: int
) -> Iterator[tuple[Batch[T], list[Encoded | BadRow]]]:
    """Each batch with its rows as ids, in the order of the batches."""
    if workers == 1:
        yield from ((batch, tokens.encode_all([form for _, form in batch])) for batch in batches)
        return
    left = iter(batches)
    # Forked, not started anew: importing the tokenizer's library takes seconds.
    with ProcessPoolExecutor(workers, get_context("fork"), _Worker.begin, (tokens,)) as pool:
        try:
            waiting: deque[tuple[Batch[T], Future[Answer]]] = deque()
            for batch in islice(left, workers * _BATCHES_PER_WORKER):
                waiting.append((batch, pool.submit(_Worker.encode, [form for _, form in batch])))
            while waiting:
                done, future = waiting.popleft()
                rows, remarks = future.result()
                tokens.remark(remarks)
                for batch in islice(left, 1):
                    waiting.append((batch, pool.submit(_Worker.encode, [form for _, form in batch])))
                yield done, rows
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """What one of the processes has; in the one that started them it is empty."""

    tokens: Tokens

    @classmethod
    def begin(cls, tokens: Tokens) -> None:
        """The first thing a process does."""
        cls.tokens = tokens
        tokens.forget_remarks()

    @classmethod
    def encode(cls, forms: Sequence[Form]) -> Answer:
        """One batch, and what it made to remark on."""
        return cls.tokens.encode_all(forms), cls.tokens.forget_remarks()
