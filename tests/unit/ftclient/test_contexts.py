"""Named daemons in a file: what is read, refused and written, and which of all that is said wins."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ftclient import contexts
from ftclient.contexts import Context, Contexts
from ftclient.errors import ContextError

SECRET, OTHER, NONE = "s3cret", "0ther", ""
GPU1 = Context("gpu1:7447", token=SECRET, ca="/etc/ca.pem")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "finetuned").mkdir()
    return tmp_path


def environ(home: Path, **more: str) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(home), "XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s", **more}


def test_what_is_saved_is_loaded_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "contexts.toml"
    odd = 'a "b"\\ \t\x7f ü.c'
    kept = Contexts().adding("gpu1", GPU1).adding(odd, Context(odd, tls=True)).using(odd)
    contexts.save(kept, path)
    assert contexts.load(path) == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_the_first_context_is_the_current_and_removing_it_leaves_none() -> None:
    both = Contexts().adding("a", Context("a:1")).adding("b", Context("b:1"))
    assert both.current == "a"
    assert both.removing("b").current == "a"
    assert both.removing("a") == Contexts("", {"b": Context("b:1")})
    with pytest.raises(ContextError, match="no context 'c'; there is: a, b"):
        both.using("c")


def test_no_file_is_no_contexts(tmp_path: Path) -> None:
    assert contexts.load(tmp_path / "none.toml") == Contexts()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\ncurrent = a\n", "at line 2"),
        ("colour = 1", "wrong: colour"),
        ("[contexts.a]\ntls = true", "contexts.a has no address"),
        ("[contexts.a]\naddress = 'x'\nadress = 'y'", "contexts.a.adress is unknown; accepted: address, token"),
        ("[contexts.a]\naddress = 'x'\ntls = 'yes'", "contexts.a.tls is to be true or false"),
        ("[contexts.a]\naddress = 'x'\ncert = 'me.pem'", "cert and key; they go together"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_the_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "contexts.toml"
    path.write_text(text)
    with pytest.raises(ContextError, match=told):
        contexts.load(path)


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "contexts.toml"
    path.write_text("[contexts.a]\naddress = 'x:1'\nca = 'ca.pem'\n")
    assert contexts.load(path).get("a").ca == str(tmp_path / "ca.pem")


def test_the_nearest_word_wins(home: Path) -> None:
    contexts.save(Contexts().adding("gpu1", GPU1).adding("b", Context("b:2", tls=True)), contexts.file(environ(home)))
    every = environ(home, FTD_ADDRESS="c:3", FTD_CONTEXT="b")
    without_address = environ(home, FTD_CONTEXT="b")
    assert contexts.target("/d.sock", environ=every).addresses == ("unix:/d.sock",)
    assert contexts.target(context="gpu1", environ=every).addresses == ("gpu1:7447",)
    assert contexts.target(environ=every).addresses == ("c:3",)
    assert contexts.target(environ=without_address).origin == "context b"
    assert contexts.target(environ=environ(home)).context == GPU1


def test_a_context_that_is_not_there_is_told_when_it_is_used(home: Path) -> None:
    contexts.file(environ(home)).write_text("current = 'gone'\n")
    with pytest.raises(ContextError, match="no context 'gone'; there is: none"):
        contexts.target(environ=environ(home))


def test_without_any_word_it_is_the_sockets_a_daemon_makes(home: Path) -> None:
    assert contexts.target(environ=environ(home)).addresses == (
        "unix:/run/user/7/finetuned/ftd.sock",
        "unix:/s/finetuned/ftd.sock",
        "unix:/run/finetuned/ftd.sock",
    )


def test_a_token_goes_only_where_it_was_meant_to_go_and_never_in_the_clear(home: Path) -> None:
    contexts.save(Contexts().adding("gpu1", GPU1), contexts.file(environ(home)))
    assert contexts.target(environ=environ(home)).context.token == SECRET
    assert contexts.target(environ=environ(home, FTD_TOKEN=OTHER)).context.token == OTHER
    assert contexts.target("other:1", environ=environ(home)).context.token == NONE
    for here in ("/a.sock", "localhost:1", "127.0.0.1:1", "[::1]:1"):
        assert contexts.target(here, token=SECRET, environ=environ(home)).context.token == SECRET
    for away in ("other:1", "10.0.0.1:1", "127.0.0.1.example.com:1"):
        with pytest.raises(ContextError, match="in the clear"):
            contexts.target(away, token=SECRET, environ=environ(home))
    assert SECRET not in repr(GPU1)
