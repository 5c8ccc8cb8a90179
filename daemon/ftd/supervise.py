"""Following one attempt from its first word to its end. It must never decide what the job does next: it calls back.

    exit = await follow(run, attempt, handle, doorbells, on_progress=..., on_started=...)

`on_progress(Progress)` is called with each new fold of the journal, often, and must be quick. `on_started()` is awaited once
when a trainer (attempt >= 1) has said its first word: the queue applies `Running`. The answer is the `Exit` of the attempt;
the queue applies `Prepared` or `Ended`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ftd.records import Progress

OnProgress = Callable[[Progress], None]
OnStarted = Callable[[], Awaitable[None]]
