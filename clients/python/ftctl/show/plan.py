"""What a submit would do, and what would make a training fit that does not."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ftctl import output
from ftctl.show import memory
from ftctl.text import because, count, forecast, share, size, takes

if TYPE_CHECKING:
    from ftclient import Plan
    from ftclient.results import Fix, MemoryEstimate


def plan(planned: Plan, labels: Mapping[str, str]) -> None:
    """Size, time and place of the training, its memory, and fixes if there are; `labels` names devices by their ids."""
    output.fields(
        ("Spec", "valid; -o yaml shows it with every default spelled out"),
        ("Trains", _size(planned)),
        ("Takes", takes(planned.duration) if planned.duration else ""),
        ("Starts", _starts(planned, labels)),
        ("Host", _host(planned.estimate)),
    )
    if planned.estimate:
        memory.table(planned.estimate)
    fixes(planned.fixes)


def fixes(found: Sequence[Fix]) -> None:
    """Each change, what it would need then, and how to write it: for --set, and as lines of the file."""
    if not found:
        return
    output.section("It would fit with any one of these")
    for fix in found:
        output.line()
        need = f"{size(fix.estimate.reserve_bytes)} {share(fix.estimate.uncertainty)}" if fix.estimate else ""
        output.line(f"  {fix.description}: {need.strip()} per device" if need else f"  {fix.description}")
        changes = {path.removeprefix("training."): value for path, value in sorted(fix.changes.items())}
        output.line("    " + " ".join(f"--set {shlex.quote(f'{path}={value}')}" for path, value in changes.items()))
        for name, value in _nested(changes).items():
            output.line(f"    {name}: {_flow(value)}")


def _size(planned: Plan) -> str:
    parts = [f"{planned.total_steps:,} steps" if planned.total_steps else ""]
    parts.append(f"{count(planned.tokens)} tokens" if planned.tokens else "")
    return ", ".join(part for part in parts if part)


def _starts(planned: Plan, labels: Mapping[str, str]) -> str:
    if planned.devices:
        return f"at once, on {', '.join(labels.get(device, device) for device in planned.devices)}"
    if planned.fixes:
        return f"never on this host{because(planned.wait_reason)}"
    when = forecast(planned.forecast, datetime.now(UTC)) if planned.forecast else "later"
    return f"{when}{because(planned.wait_reason)}"


def _host(estimate: MemoryEstimate | None) -> str:
    if estimate is None:
        return ""
    parts = [f"{size(estimate.host_bytes)} of host memory" if estimate.host_bytes else ""]
    parts.append(f"{size(estimate.disk_bytes)} of disk for checkpoints and output" if estimate.disk_bytes else "")
    return ", ".join(part for part in parts if part)


def _nested(changes: Mapping[str, str]) -> dict[str, Any]:
    """Paths and values as the mappings they stand for."""
    root: dict[str, Any] = {}
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return root


def _flow(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
