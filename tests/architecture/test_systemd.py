"""The files for systemd are accepted by systemd, and the example configuration is the daemon's own, key by key."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from ftd import config

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = (FOLDER / "ftd.service").read_text(encoding="utf-8")


def verify(unit: str, folder: Path) -> str:
    """What systemd says of the unit. Only the path of the program is replaced: here it need not be installed."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    (folder / "ftd.service").write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(folder / "ftd.service")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr + ("" if result.returncode == 0 else f"exit {result.returncode}")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    assert verify(UNIT, tmp_path) == ""


def test_systemd_refuses_a_wrong_one(tmp_path: Path) -> None:
    assert "'KillMod'" in verify(UNIT.replace("KillMode=", "KillMod="), tmp_path)


@pytest.mark.parametrize(
    "directive",
    ["Type=notify", "NotifyAccess=main", "WatchdogSec=30", "KillMode=process", "Delegate=yes", "User=finetuned"],
)
def test_trainings_outlive_the_daemon(directive: str) -> None:
    assert f"\n{directive}\n" in UNIT


@pytest.mark.parametrize("directive", ["MemoryMax", "TasksMax", "PrivateTmp", "RemoveIPC", "MemoryDenyWriteExecute"])
def test_nothing_in_the_unit_hurts_running_trainings(directive: str) -> None:
    assert f"\n{directive}=" not in UNIT


def test_the_example_configuration_loads() -> None:
    loaded = config.load(FOLDER / "ftd.toml")
    assert loaded.daemon.socket_path == Path("/run/finetuned/ftd.sock")


def test_the_example_configuration_has_every_key_and_no_other() -> None:
    example = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", (FOLDER / "ftd.toml").read_text(), flags=re.MULTILINE))
    known = {name: set(field.annotation.model_fields) for name, field in config.Config.model_fields.items()}  # type: ignore[union-attr]
    assert {section: set(keys) for section, keys in example.items()} == known


def test_what_the_example_comments_out_is_the_default() -> None:
    """Defaults that depend on the machine are shown for an installation below /opt."""
    commented = re.sub(r"^(?!# \w+ = |\[).*$", "", (FOLDER / "ftd.toml").read_text(), flags=re.MULTILINE)
    example = tomllib.loads(re.sub(r"^# ", "", commented, flags=re.MULTILINE))
    default = config.Config().model_dump(mode="json")
    machine = {
        ("paths", "code_roots"),
        ("devices", "file"),
        ("security", "secrets"),
        ("trainer", "rank_command"),
        ("trainer", "prepare_command"),
    }
    different = [
        (section, key)
        for section, keys in example.items()
        for key, value in keys.items()
        if (section, key) not in machine and default[section][key] != value
    ]
    assert different == []
