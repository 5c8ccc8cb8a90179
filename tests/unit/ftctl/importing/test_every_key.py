"""Whatever a file holds, each of its keys is in the report, and nothing is refused without saying what to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.ftctl.importing.conftest import place

from ftctl.importing.axolotl import AXOLOTL
from ftctl.importing.llamafactory import LLAMAFACTORY, V1
from ftctl.importing.report import Kind
from ftctl.importing.rules import Tool, run
from ftctl.importing.swift import SWIFT

TOOLS = (LLAMAFACTORY, SWIFT, AXOLOTL, V1)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3000),
    st.floats(allow_nan=True),
    st.sampled_from(["", "no", "steps", "epoch", "all", "lora", "freeze", "dpo", "1e-4", "a, b", "${x}", "answers"]),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=4), scalars, max_size=2))


def keys_of(tool: Tool) -> st.SearchStrategy[dict[str, Any]]:
    names = [*tool.table, *tool.aliases, *(f"{start}x" for start in tool.families)]
    return st.dictionaries(st.one_of(st.sampled_from(names), st.text(min_size=1, max_size=9)), values, max_size=12)


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_key_is_dropped(tool: Tool, data: st.DataObject) -> None:
    keys = data.draw(keys_of(tool))
    found = run(tool, keys, place())
    told = {entry.key.partition("[")[0].partition("#")[0] for entry in found.entries} | {e.key for e in found.entries}
    assert set(keys) <= told
    for entry in found.of(Kind.REFUSED):
        assert entry.text
        assert entry.instead


@pytest.mark.parametrize("tool", TOOLS[:3], ids=lambda tool: tool.name)
def test_every_alias_means_a_key_of_the_table(tool: Tool) -> None:
    assert set(tool.aliases.values()) <= set(tool.table)


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    [entry] = [e for e in run(LLAMAFACTORY, {"learning_rat": 1}, place()).of(Kind.REFUSED) if e.value == 1]
    assert "learning_rate" in entry.text
