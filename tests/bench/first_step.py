"""A rank up to the end of its first update, in a process of its own; prints the seconds of each part as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGUN = time.time()


def main(started: str, model: str, prepared: str, folder: str) -> None:
    from tests.support import training as support

    changes = "schedule { max_steps: 1 } batch { micro_batch: 4 global_batch: 4 }"
    message = support.bootstrap(Path(folder), support.resolved_spec(Path(model), changes=changes), Path(prepared))
    parts = {"interpreter": BEGUN - float(started)}
    before = time.perf_counter()
    from fttrain import recipe
    from fttrain.report import Report

    parts["import"] = time.perf_counter() - before
    inside = vars(recipe)
    inside["load_model"] = timed(parts, "model", inside["load_model"])
    rows = timed(parts, "rows", recipe.load_rows)(message)
    trainer, _ = timed(parts, "trainer", recipe.build_trainer)(message, rows, Report(None, 1))
    # The model is loaded while the trainer is built.
    parts["trainer"] -= parts["model"]
    timed(parts, "first step", trainer.train)()
    print(json.dumps(parts))


def timed(parts: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose seconds are added to the parts."""

    def run(*given: Any, **named: Any) -> Any:
        before = time.perf_counter()
        found = function(*given, **named)
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - before
        return found

    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
