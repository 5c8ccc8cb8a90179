"""What an UpdateJob asks for, as an edit of a job: the fields that its mask names, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from finetuned.v1 import job_service_pb2
from ftd.errors import InvalidRequest
from ftd.job import Job

_VALUES = ("priority", "front")
_MAPS = ("labels", "annotations")
_ACCEPTED = "it names one or more of priority, front, labels, annotations, labels.KEY and annotations.KEY"


def read_edit(request: job_service_pb2.UpdateJobRequest) -> Callable[[Job], Job]:
    """The edit. Raises InvalidRequest where the mask cannot be meant."""
    paths = sorted(set(request.update_mask.paths))
    whole = {path for path in paths if path in (*_VALUES, *_MAPS)}
    entries = [(name, key) for name, _, key in (path.partition(".") for path in paths) if name in _MAPS and key]
    if not paths or len(whole) + len(entries) < len(paths):
        raise InvalidRequest(f"update_mask is {paths}; {_ACCEPTED}")
    if both := whole & {name for name, _ in entries}:
        raise InvalidRequest(f"update_mask names {min(both)} and one of its entries; name the whole, or entries")

    def edit(job: Job) -> Job:
        changed: dict[str, Any] = {name: getattr(request, name) for name in whole}
        # A message's map is no value: it would go on changing with its message.
        changed |= {name: dict(getattr(request, name)) for name in whole.intersection(_MAPS)}
        changed |= {name: dict(getattr(job, name)) for name, _ in entries}
        for name, key in entries:
            changed[name].pop(key, None)
            if key in getattr(request, name):
                changed[name][key] = getattr(request, name)[key]
        return replace(job, **changed)

    return edit
