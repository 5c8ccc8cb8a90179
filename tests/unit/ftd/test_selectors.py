"""Selectors: what each form means, what means nothing, and that rows are found by the same rules as labels are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.jobs import fake_job
from tests.support.parts import opened_database

from ftd.draft import new_id
from ftd.errors import InvalidRequest
from ftd.selectors import Need, Requirement, fits, parse
from ftd.store import Filter, Store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  ", ()),
        ("team=cx", (Requirement("team", Need.IN, ("cx",)),)),
        ("team == cx", (Requirement("team", Need.IN, ("cx",)),)),
        ("team=", (Requirement("team", Need.IN, ("",)),)),
        ("stage!=test", (Requirement("stage", Need.NOT_IN, ("test",)),)),
        ("size in (s, m)", (Requirement("size", Need.IN, ("s", "m")),)),
        ("size notin (s,)", (Requirement("size", Need.NOT_IN, ("s", "")),)),
        ("owner", (Requirement("owner", Need.EXISTS),)),
        ("!draft", (Requirement("draft", Need.ABSENT),)),
        ("inside,! notes", (Requirement("inside", Need.EXISTS), Requirement("notes", Need.ABSENT))),
        (
            "app.example.org/name=x , in in (notin)",
            (Requirement("app.example.org/name", Need.IN, ("x",)), Requirement("in", Need.IN, ("notin",))),
        ),
    ],
)
def test_each_form_means_what_it_means_in_kubernetes(text: str, expected: tuple[Requirement, ...]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "from_on"),
    [
        ("=cx", "=cx"),
        ("team=cx,", "team=cx,"),
        ("a,,b", ",b"),
        ("team=cx stage=test", "team=cx stage=test"),
        ("a=b,size in s", "size in s"),
        ("size in (s", "size in (s"),
        ("size in ((s))", "size in ((s))"),
        ("a=b=c", "a=b=c"),
        ("!a=b", "!a=b"),
        ("a>1,", "a>1,"),
    ],
)
def test_what_means_nothing_is_told_with_its_place(text: str, from_on: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(text)
    assert f"from {from_on!r} on; accepted is e.g. team=cx," in str(refused.value)


def test_a_job_without_the_label_fits_what_excludes_values() -> None:
    assert fits(parse("a!=1,a notin (2,3),!a"), {})
    assert not fits(parse("a"), {})
    assert not fits(parse("a in (1,)"), {})
    assert fits(parse("a!=1"), {"a": "2"})


KEYS, VALUES = st.sampled_from("abc"), st.sampled_from(["", "1", "2"])
REQUIREMENTS = st.builds(
    Requirement, KEYS, st.sampled_from([Need.IN, Need.NOT_IN]), st.lists(VALUES, min_size=1).map(tuple)
) | st.builds(Requirement, KEYS, st.sampled_from([Need.EXISTS, Need.ABSENT]))


async def test_the_store_finds_those_that_fit(tmp_path: Path) -> None:
    kinds = [{}, {"a": "1"}, {"a": "2", "b": ""}, {"b": "1", "c": "2"}, {"a": "", "c": "1"}]
    async with opened_database(tmp_path) as database:
        store = Store(database)
        for labels in kinds:
            await store.insert(replace(fake_job(tmp_path, {}), id=new_id(), labels=labels))
        selectors: list[tuple[Requirement, ...]] = []

        @settings(derandomize=True, deadline=None, max_examples=200)
        @given(st.lists(REQUIREMENTS, max_size=3).map(tuple))
        def draw(selector: tuple[Requirement, ...]) -> None:
            selectors.append(selector)

        draw()
        for selector in selectors:
            found = [stored.job.labels for stored in await store.page(Filter(selector=selector), 9, None)]
            assert found == [labels for labels in reversed(kinds) if fits(selector, labels)], selector
