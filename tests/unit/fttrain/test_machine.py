"""The bounds of a rank, as far as they are arithmetic."""

from __future__ import annotations

import pytest

from fttrain.machine import allocator_share

GIB = 2**30


@pytest.mark.parametrize(
    ("cap", "total", "share"),
    # A reservation of 20 GiB less a context of 0.9 GiB on a card of 80 GB, and one of more than the card has.
    [(int(19.1 * GIB), int(79.15 * GIB), 0.24131), (90 * GIB, 80 * GIB, 1.0), (1, 80 * GIB, 0.0)],
)
def test_the_allocator_gets_its_share_of_the_card(cap: int, total: int, share: float) -> None:
    assert allocator_share(cap, total) == pytest.approx(share, abs=1e-5)
    assert int(allocator_share(cap, total) * total) <= cap
