"""Memory of a training, term by term, against what is reserved and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftctl import output
from ftctl.text import share, size

if TYPE_CHECKING:
    from ftclient.results import MemoryEstimate

BAR = 16
# The moments of a step, in words.
MOMENTS = {
    "loss": "while the loss is computed",
    "layer": "in a layer's backward pass",
    "end": "at the end of the backward pass",
    "step": "in the optimizer's step",
    "evaluation": "in an evaluation",
    "generation": "while text is generated",
}


def table(found: MemoryEstimate, measured: int = 0, *, resident: bool = False) -> None:
    """The terms, the peak with its moment and uncertainty, the reservation; `measured` is a peak in bytes or 0.

    What is `resident` is a whole process, on a CPU, and not to be compared with the estimate's peak, which is tensors.
    """
    output.section("Memory per device")
    terms = [(term.name, term.bytes, term.note) for term in found.terms]
    moment = MOMENTS.get(found.peak_moment, found.peak_moment)
    length = f"for rows of {found.sequence_length} tokens" if found.sequence_length else ""
    terms.append(("peak", found.peak_bytes, " ".join(filter(None, (share(found.uncertainty), moment, length)))))
    terms.append(("reserved", found.reserve_bytes, found.basis))
    if measured:
        terms.append(("measured", measured, _against(measured, found, resident=resident)))
    scale = max(count for _, count, _ in terms)
    if output.console().is_terminal:
        rows = [[name, size(count), bar(count, scale), note] for name, count, note in terms]
        output.table(["TERM", "SIZE", "", "NOTE"], rows, right=(1,))
    else:
        output.table(["TERM", "SIZE", "NOTE"], [[name, size(count), note] for name, count, note in terms], right=(1,))


def bar(count: int, scale: int) -> str:
    """A bar as long as its share of `scale`, to an eighth of a character."""
    eighths = round(8 * BAR * count / scale) if scale else 0
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _against(measured: int, found: MemoryEstimate, *, resident: bool) -> str:
    comparable = found.peak_bytes and not resident
    over = measured / found.peak_bytes - 1 if comparable else 0.0
    told = f"{abs(over):.0%} {'over' if over > 0 else 'under'} the estimate" if comparable else ""
    used = f"{measured / found.reserve_bytes:.0%} of what is reserved" if found.reserve_bytes else ""
    return ", ".join(filter(None, (told, used)))
