"""What the READMEs say is so: the tree, the state diagram, the links, the targets of make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.architecture import diagram, house

from ftd.moves import Event, Placed
from ftd.records import JobState

ROOT = Path(__file__).parents[2]
READMES = sorted(p for p in house.files(ROOT) if p.suffix == ".md")


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_tree_is_true() -> None:
    assert house.untrue_tree(ROOT, text(ROOT / "README.md")) == []


def test_a_wrong_tree_is_found(tmp_path: Path) -> None:
    (tmp_path / "daemon" / "ftd").mkdir(parents=True)
    (tmp_path / "attic").mkdir()
    readme = "<!-- tree -->\n```\ndaemon/      the daemon\n  ftd/       it\n  ghost/     gone\n```\n"
    assert house.untrue_tree(tmp_path, readme) == [
        "daemon/ghost: is in the tree, but not here",
        "attic: is here, but not in the tree",
    ]


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert diagram.drawn(text(diagram.README)) == diagram.draw(), "run: make generate"


def test_the_diagram_follows_the_table() -> None:
    moves: dict[tuple[JobState, type[Event]], tuple[JobState, ...]] = {
        (JobState.QUEUED, Placed): (JobState.STARTING, JobState.RUNNING)
    }
    arrows = diagram.draw(moves).splitlines()[4:6]
    assert arrows == ["    queued --> starting: Placed", "    queued --> running: Placed"]


@pytest.mark.parametrize("readme", READMES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(readme: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text(readme))
    assert [link for link in links if not (readme.parent / link).exists()] == []


@pytest.mark.parametrize("readme", READMES, ids=lambda p: str(p.relative_to(ROOT)))
def test_make_has_the_targets_that_are_named(readme: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", text(readme))) <= targets


def test_every_room_has_a_readme_that_the_first_one_links() -> None:
    rooms = ["proto", "scheduler", "daemon", "clients"]
    assert [room for room in rooms if f"({room}/README.md)" not in text(ROOT / "README.md")] == []
