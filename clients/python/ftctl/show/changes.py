"""What has become of jobs: one line a change, of the same columns whether they are past or live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftctl.text import NOTHING, clock

if TYPE_CHECKING:
    from ftclient import JobChange

# A longer name moves what follows; a line is written when its change comes, and cannot wait for wider ones.
_NAME, _STATE = 20, 10


def change(told: JobChange) -> str:
    """When, which job, from where to where, why."""
    move = told.transition
    time = told.delete_time if move is None else move.time
    before = str(move.from_state or NOTHING) if move else ""
    after = str(move.to_state) if move else "deleted"
    why = move.reason.message if move and move.reason else ""
    states = f"{before:>{_STATE}} → {after:<{_STATE}}"
    return "  ".join((clock(time) if time else NOTHING, told.job, f"{told.name:<{_NAME}}", states, why)).rstrip()
