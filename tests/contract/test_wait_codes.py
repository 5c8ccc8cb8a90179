"""The scheduler's reasons and the public ones have the same names, though neither imports the other."""

from __future__ import annotations

from ftd.records import ReasonCode
from ftsched.model import WaitCode


def test_every_reason_to_wait_is_public() -> None:
    assert {code.value for code in WaitCode} <= {code.value for code in ReasonCode}
