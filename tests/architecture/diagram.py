"""Draws the life of a job from `ftd.moves.TABLE` as a mermaid state diagram, for daemon/README.md.

`python -m tests.architecture.diagram --write` puts the drawing into the README; a test holds the two equal. It knows
no state and no event by name: what the table has is what is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ftd.moves import TABLE, TERMINAL, Event
from ftd.records import JobState

README = Path(__file__).parents[2] / "daemon" / "README.md"
BEGIN = "<!-- Drawn from ftd.moves.TABLE by `make generate`; do not edit. -->\n"
END = "<!-- End of the drawing. -->\n"

Table = Mapping[tuple[JobState, type[Event]], Sequence[JobState]]


def draw(table: Table = TABLE) -> str:
    """The table as a fenced mermaid block: one arrow for each pair of states, with the events that lead along it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), targets in table.items():
        for target in targets:
            arrows.setdefault((state, target), []).append(event.__name__)
    begin = [f"    [*] --> {JobState.PREPARING}", f"    [*] --> {JobState.PAUSED}: hold"]
    lines = ["```mermaid", "stateDiagram-v2", *begin]
    lines += [f"    {state} --> {target}: {', '.join(events)}" for (state, target), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state in JobState if state in TERMINAL]
    return "\n".join([*lines, "```"]) + "\n"


def drawn(text: str) -> str:
    """The drawing a README holds. Raises ValueError if it has no place for one."""
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def main() -> None:
    text = README.read_text(encoding="utf-8")
    if "--write" in sys.argv[1:]:
        before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
        README.write_text(text[:before] + draw() + text[after:], encoding="utf-8")
    else:
        sys.stdout.write(draw())


if __name__ == "__main__":
    main()
