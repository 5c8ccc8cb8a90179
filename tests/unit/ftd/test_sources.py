"""What a source of a spec means on a host, and what a user reads when it means nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ftd import urls
from ftd.datasets import Columns, Data, DataSource, Format, Speakers
from ftd.paths import Roots
from ftd.sources import SourceFinder

FILE = "a .json, .jsonl, .csv or .txt file, each also as .gz or .zst, or a .parquet or .arrow file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret.jsonl").write_text("{}")
    root = tmp_path / "root"
    root.mkdir()
    return root


def files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text("{}")


def found(root: Path, path: str) -> list[str]:
    data = Data(train=(DataSource(str(root / path)),))
    data, problems = SourceFinder(Roots((root,)), ()).find(data, pretrain=False)
    assert problems == []
    return [os.path.relpath(file, root) for file in data.train[0].files]


def refusal(root: Path, path: str = "", allowed: tuple[str, ...] = (), pretrain: bool = False, **source: Any) -> str:
    """The one violation, with its field where that is not the path."""
    path = path if not path or "://" in path else f"{root}/{path}"
    data = Data(train=(DataSource(path, **source),))
    _, [problem] = SourceFinder(Roots((root,)), allowed).find(data, pretrain=pretrain)
    field = problem.field.removeprefix("training.data.train[0].")
    return problem.description if field == "path" else f"{field}: {problem.description}"


def test_a_file_is_told_without_links(root: Path) -> None:
    files(root, "a.jsonl", "b.csv.gz")
    (root / "link.jsonl").symlink_to("a.jsonl")
    assert found(root, "link.jsonl") == ["a.jsonl"]
    assert found(root, "b.csv.gz") == ["b.csv.gz"]


def test_a_folder_means_its_files_in_the_order_of_their_names(root: Path) -> None:
    files(root, "d/2.jsonl.gz", "d/10.json", "d/README.md", "d/.hidden.json", "d/_SUCCESS.json", "d/dataset_info.json")
    assert found(root, "d") == found(root, "d/") == ["d/10.json", "d/2.jsonl.gz"]


def test_a_folder_of_datasets_means_its_arrow_files(root: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list([{"text": "a"}]).save_to_disk(str(root / "saved"))
    assert found(root, "saved") == ["saved/data-00000-of-00001.arrow"]


def test_a_pattern_means_what_fits_it(root: Path) -> None:
    files(root, "a/1.csv", "b/1.csv", "b/2.csv", "b/[x].csv")
    assert found(root, "*/1.csv") == ["a/1.csv", "b/1.csv"]
    assert found(root, "b/[12].csv") == ["b/1.csv", "b/2.csv"]
    assert found(root, "b/[x].csv") == ["b/[x].csv"]


def test_what_means_no_file_is_refused_with_what_would_be_accepted(root: Path) -> None:
    files(
        root, "mixed/a.csv", "mixed/b.jsonl", "mixed/c.json", "sub/train/a.csv", "sub/.git/x", "a.xlsx", "a.parquet.gz"
    )
    (root / "empty").mkdir()
    several = "files of several kinds, .csv and .json; accepted is one kind, e.g. a pattern with *.csv"
    assert refusal(root, "mixed") == f"holds {several}"
    assert refusal(root, "mixed/*") == f"fits {several}"
    assert refusal(root, "empty") == f"is a folder without a file of rows; accepted is a folder with {FILE}"
    assert "it has the folders train;" in refusal(root, "sub")
    assert refusal(root, "no*.csv") == (
        f"fits no file of rows; accepted is a pattern, with *, ? and [ ], that fits {FILE}"
    )
    assert refusal(root, "a.xlsx") == f"has the ending .xlsx; accepted is {FILE}"
    assert refusal(root, "a.parquet.gz") == f"has the ending .gz; accepted is {FILE}"
    assert "does not exist on the daemon's host" in refusal(root, "gone.csv")
    assert refusal(root, "a.csv", files=("/etc/x.csv",)) == "files: is the daemon's to say; leave it out"


def test_nothing_leads_out_of_the_roots(root: Path) -> None:
    files(root, "d/a.jsonl")
    (root / "d" / "b.jsonl").symlink_to(root.parent / "secret.jsonl")
    (root / "out").symlink_to(root.parent)
    outside = f"is outside the folders this host allows here; accepted is a path below {root}"
    assert refusal(root, "d") == f"holds b.jsonl, which {outside}"
    assert refusal(root, "d/*.jsonl") == f"fits b.jsonl, which {outside}"
    assert refusal(root, "out") == refusal(root, "d/b.jsonl") == refusal(root, "../*.jsonl") == outside
    assert refusal(root, "*/secret.jsonl") == f"fits secret.jsonl, which {outside}"


def test_too_many_files_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftd.datafiles.MOST_FILES", 2)
    files(root, "d/1.csv", "d/2.csv", "d/3.csv")
    assert refusal(root, "d") == "holds 3 files of rows; accepted are at most 2"


INFO: dict[str, Any] = {
    "plain": {"file_name": "a.json"},
    "asked": {"file_name": "d", "columns": {"prompt": "q", "response": "a"}, "num_samples": 30},
    "talk": {
        "file_name": "a.json",
        "formatting": "sharegpt",
        "columns": {"messages": "turns", "tools": "tools"},
        "tags": {"role_tag": "role", "content_tag": "text", "user_tag": "me", "assistant_tag": "you"},
    },
    "pairs": {"file_name": "a.json", "ranking": True, "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}},
    "labels": {"file_name": "a.json", "formatting": "sharegpt", "columns": {"messages": "m", "kto_tag": "good"}},
    "text": {"file_name": "a.json", "columns": {"prompt": "text"}},
    "cloud": {"cloud_file_name": "s3://bucket/a.jsonl", "columns": {"prompt": "q", "response": "a"}},
    "hub": {"hf_hub_url": "a/b", "file_name": "a.json"},
    "none": {"formatting": "alpaca"},
    "pictures": {"file_name": "a.json", "columns": {"prompt": "q", "response": "a", "images": "i"}},
    "odd": {"file_name": "a.json", "formatting": "v1"},
    "tested": {"file_name": "a.json", "split": "test"},
    "unanswered": {"file_name": "a.json", "columns": {"prompt": "q"}},
    "untagged": {"file_name": "a.json", "formatting": "sharegpt", "tags": {"user_tag": "me"}},
    "drawn": {"file_name": "a.json", "num_samples": 0},
    "gone": {"file_name": "gone.json"},
}


@pytest.fixture
def info(root: Path) -> str:
    files(root, "a.json", "d/1.json", "d/2.json")
    (root / "dataset_info.json").write_text(json.dumps(INFO))
    return str(root / "dataset_info.json")


def entry(root: Path, info: str, name: str, *, pretrain: bool = False) -> DataSource:
    data = Data(train=(DataSource(dataset_info=info, name=name, weight=2.0),))
    data, problems = SourceFinder(Roots((root,)), ()).find(data, pretrain=pretrain)
    assert problems == []
    assert (data.train[0].dataset_info, data.train[0].name, data.train[0].weight) == (info, name, 2.0)
    return data.train[0]


def test_a_data_set_is_read_as_llama_factory_reads_it(root: Path, info: str) -> None:
    plain = entry(root, info, "plain")
    assert (plain.files, plain.format) == ((str(root / "a.json"),), Format.ALPACA)
    # Without columns the usual ones, of which system and history are none.
    assert plain.columns == Columns(instruction="instruction", input="input", output="output", only=True)
    asked = entry(root, info, "asked")
    assert asked.columns == Columns(instruction="q", output="a", only=True)
    assert (asked.num_samples, len(asked.files)) == (30, 2)
    talk = entry(root, info, "talk")
    assert talk.columns == Columns(messages="turns", tools="tools", role="role", content="text", only=True)
    assert talk.speakers == Speakers(user="me", assistant="you")
    labels = entry(root, info, "labels")
    assert (labels.format, labels.columns) == (
        Format.KTO,
        Columns(messages="m", label="good", role="from", content="value", only=True),
    )
    assert labels.speakers == Speakers("human", "gpt", "system", "observation", "function_call")
    assert entry(root, info, "pairs").format is Format.PREFERENCE
    text = entry(root, info, "text", pretrain=True)
    assert (text.format, text.columns) == (Format.TEXT, Columns(text="text", only=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plian", "has no data set 'plian'; did you mean 'plain'?"),
        ("hub", "takes 'hub' from hf_hub_url, which is not read; download it, and give its file as file_name"),
        ("none", "has no file_name for 'none'"),
        ("pictures", "lists images for 'pictures', which are not trained on; accepted are rows of text"),
        ("odd", "says formatting 'v1' of 'odd'; accepted is alpaca, sharegpt or openai"),
        ("tested", "says split 'test' of 'tested'; a file has the split train only"),
        ("unanswered", "lists columns of 'unanswered' without response, so there is none; list it"),
        ("untagged", "lists tags of 'untagged' without role_tag, so there is none; list it"),
        ("drawn", "says num_samples 0 of 'drawn'; accepted is a number, at least 1"),
        ("cloud", "names s3://bucket/a.jsonl, which is a URL, and this host fetches no data; accepted is a path"),
    ],
)
def test_what_cannot_be_read_alike_is_refused(root: Path, info: str, name: str, message: str) -> None:
    assert refusal(root, dataset_info=info, name=name) == f"dataset_info: {message}"


def test_a_data_set_that_is_not_there_is_refused(root: Path, info: str) -> None:
    assert f"dataset_info: names {root}/gone.json, which is" in refusal(root, dataset_info=info, name="gone")
    assert refusal(root, "a.json", dataset_info=info, name="plain") == (
        "stands beside dataset_info, whose entry says it; leave it out"
    )
    assert (
        refusal(root, dataset_info=info) == "name: is missing; with dataset_info it is the name of the data set there"
    )
    files(root, "b.json")
    assert refusal(root, dataset_info=f"{root}/b.json", name="x").startswith("dataset_info: has no data set 'x'")
    (root / "b.json").write_text("{")
    assert refusal(root, dataset_info=f"{root}/b.json", name="x").startswith("dataset_info: is not JSON")
    assert "pretrain takes texts" in refusal(root, dataset_info=info, name="plain", pretrain=True)


ALLOWED = ("https://data.example/sets/", "s3://bucket/")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://data.example/a.json", "has the scheme ftp; accepted are https, http, s3, gs"),
        ("https://me:pw@data.example/sets/a.json", "has a user, a query or a fragment"),
        ("https://data.example/sets/a.json?key=1", "has a user, a query or a fragment"),
        ("https://data.example/a.json", f"is none that this host fetches; accepted are {' and '.join(ALLOWED)}"),
        ("https://data.example/sets/%2e%2e/a.json", "is none that this host fetches"),
        ("http://127.0.0.1/a.json", "is none that this host fetches"),
        ("https://data.example/sets/", "names no file of rows"),
        ("s3://bucket/a.jsonl", "needs the package s3fs, which is not installed here; accepted is a path"),
    ],
)
def test_only_urls_that_the_host_allows_are_fetched(root: Path, url: str, message: str) -> None:
    assert refusal(root, url) == "is a URL, and this host fetches no data; accepted is a path"
    assert refusal(root, url, ALLOWED).startswith(message)


def test_an_allowed_url_is_left_to_the_preparation(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls.importlib.util, "find_spec", lambda name: name)
    data = Data(train=(DataSource("s3://bucket/a.jsonl.gz"),))
    assert SourceFinder(Roots((root,)), ALLOWED).find(data, pretrain=False) == (data, [])
