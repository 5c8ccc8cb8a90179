"""The trace that a call belongs to, as its metadata say it (W3C Trace Context). It never makes a call fail."""

from __future__ import annotations

import re

from ftd.service.errors import Context

# Version, trace, span, flags. Version ff and ids of zeros are invalid.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(context: Context) -> str:
    """The caller's `traceparent`; empty if there is none, or one that the standard says to ignore."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str) and _TRACEPARENT.fullmatch(value):
            return value
    return ""
