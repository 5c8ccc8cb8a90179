"""Which URLs this host fetches rows from: what its owner listed, for whose schemes a library is installed.

A URL never holds a secret: a spec is shown to whoever may see the job. Nothing here goes to the network.
"""

from __future__ import annotations

import importlib.util
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ftd.limits import DATA_ENDINGS, DATA_FILE, ending
from ftd.paths import PathRefused

# What fsspec needs for each scheme.
SCHEMES = {"https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}


def check_url(url: str, allowed: tuple[str, ...]) -> None:
    """Raises PathRefused unless rows may be fetched from there. `allowed`: beginnings of URLs, e.g. "s3://bucket/"."""
    parts = urlsplit(url)
    if not allowed:
        raise PathRefused("is a URL, and this host fetches no data; accepted is a path")
    if parts.scheme not in SCHEMES:
        raise PathRefused(f"has the scheme {parts.scheme}; accepted are {', '.join(SCHEMES)}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PathRefused("has a user, a query or a fragment; accepted is a URL without, as it may hold a secret")
    if ".." in PurePosixPath(unquote(parts.path)).parts or not any(url.startswith(each) for each in allowed):
        raise PathRefused(f"is none that this host fetches; accepted are {' and '.join(allowed)}")
    if ending(parts.path) not in DATA_ENDINGS:
        raise PathRefused(f"names no file of rows; accepted is {DATA_FILE}")
    package = SCHEMES[parts.scheme]
    if importlib.util.find_spec(package) is None:
        raise PathRefused(f"needs the package {package}, which is not installed here; accepted is a path")
