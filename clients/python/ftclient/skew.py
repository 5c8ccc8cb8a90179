"""How far apart a client and a daemon are, in words. Pure.

Both speak `finetuned.v1`, which only grows: an older client leaves out what it does not know, and an older daemon
answers UNIMPLEMENTED to what it does not know. So a difference is worth a word, and never a refusal.
"""

from __future__ import annotations

import re


def skew(client: str, daemon: str) -> str:
    """What the difference means and how to end it; empty if the versions differ in their last part at most."""
    ours, theirs = _release(client), _release(daemon)
    if ours is None or theirs is None or ours == theirs:
        return ""
    if ours < theirs:
        return (
            f"this program ({client}) is older than the daemon ({daemon}) and does not show what is new there; "
            "update it: pip install -U finetuned"
        )
    return (
        f"the daemon ({daemon}) is older than this program ({client}) and refuses what it does not know yet; "
        f"update the daemon, or use its version here: pip install finetuned=={daemon}"
    )


def _release(version: str) -> tuple[int, int] | None:
    """Major and minor version; None for a text that is no version."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None
