"""GPUs that a test declares in the daemon's inventory file, and changes while it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GIB = 2**30


def declare(path: Path, *gpus: dict[str, Any]) -> Path:
    """Writes the inventory at once: GPUs with uuid, total_bytes and processes."""
    lines: list[str] = []
    for gpu in gpus:
        lines += ["[[gpu]]", *(f"{key} = {json.dumps(value)}" for key, value in gpu.items() if key != "process")]
        for process in gpu.get("process", ()):
            lines += ["[[gpu.process]]", *(f"{key} = {json.dumps(value)}" for key, value in process.items())]
    new = path.with_suffix(".new")
    new.write_text("\n".join(lines))
    return new.replace(path)


def gpu(number: int, *process: dict[str, Any], gib: int = 80) -> dict[str, Any]:
    return {"uuid": f"GPU-{number}", "total_bytes": gib * GIB, "process": process}
