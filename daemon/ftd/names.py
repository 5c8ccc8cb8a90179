"""The name of a job that was given none. Need not be unique. Pure."""

from __future__ import annotations

import re

from ftd.spec import TrainingSpec, choice_name

LONGEST = 63


def default_name(training: TrainingSpec) -> str:
    """What a resolved training does to which model, e.g. "sft-lora-smollm2-135m-instruct"."""
    what = [choice_name(choice) for choice in (training.stage, training.method) if choice]
    # What a job left lies in a folder that is called as any other's: the job tells it apart.
    path = (training.model.path or "").rstrip("/").removesuffix("/output")
    model = (path or training.model.hub_id or "").rpartition("/")[2]
    name = re.sub(r"[^a-z0-9_.]+", "-", "-".join([*what, model.lower()]))
    return name[:LONGEST].strip("-")
