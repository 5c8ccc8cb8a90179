"""Every example: its whole transcript, no key without an entry, and a spec that the daemon would take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.ftctl.conftest import Run, Transcript
from tests.unit.ftctl.importing.conftest import EXAMPLES, TRAININGS, place

from ftclient import specfile
from ftctl.importing import reading
from ftd.spec import DeviceKind
from ftd.validate import check
from ftd.wire import read_spec


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.name.replace('.', '-')}"


@pytest.mark.parametrize("path", TRAININGS, ids=name_of)
def test_a_transcript(
    path: Path, ftctl: Run, same_transcript: Callable[[str, Transcript], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where lines break would depend on where the repository stands.
    monkeypatch.setenv("COLUMNS", "2000")
    same_transcript(name_of(path), ftctl("import", str(path)))


@pytest.mark.parametrize("path", TRAININGS, ids=name_of)
def test_no_key_is_missing(path: Path) -> None:
    found = reading.report(path.read_text(), str(path), place(path.parent))
    keys, _ = reading._keys(path.read_text(), str(path), place(path.parent))
    told = {entry.key for entry in found.entries}
    assert set(keys) <= told


@pytest.mark.parametrize("path", TRAININGS, ids=name_of)
def test_a_faithful_spec_is_valid(path: Path, ftctl: Run, tmp_path: Path) -> None:
    target = tmp_path / "job.yaml"
    done = ftctl("import", str(path), "-o", str(target))
    assert target.exists() == (done.code == 0)
    if done.code == 0:
        assert not done.out
        read = specfile.read(target.read_text(), base=tmp_path)
        assert not read.problems
        assert not check(read_spec(read.spec), DeviceKind.GPU)


def test_the_report_as_json_holds_the_spec(ftctl: Run) -> None:
    done = ftctl("import", str(EXAMPLES / "llamafactory" / "lora_sft.yaml"), "--report", "json")
    found = json.loads(done.out)
    assert found["faithful"]
    assert found["spec"]["optimizer"]["learning_rate"] == 1e-4
    assert not done.err


def test_json_of_a_refusal_has_no_spec(ftctl: Run) -> None:
    done = ftctl("import", str(EXAMPLES / "llamafactory" / "predict.yaml"), "--report", "json")
    assert done.code == 6
    assert json.loads(done.out)["spec"] is None


def test_what_is_refused_can_be_taken_away(ftctl: Run) -> None:
    done = ftctl("import", str(EXAMPLES / "llamafactory" / "full_sft.yaml"), "--set", "deepspeed=null")
    assert done.code == 0
    assert "full: {}" in done.out


def test_the_spec_can_be_submitted_from_a_pipe(ftctl: Run) -> None:
    done: Transcript = ftctl("import", str(EXAMPLES / "axolotl" / "dpo.yml"))
    assert not specfile.read(done.out).problems
