import sys
from pathlib import Path

import pytest

from ftd.config import Config, ConfigError, load


def refused(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "ftd.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_without_a_file_everything_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/data")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    config = load(None)
    assert config.daemon.state_directory == Path("/srv/data/.local/state/finetuned")
    assert config.paths.data_roots == (Path("/srv/data"),)
    assert config.trainer.rank_command == (sys.executable, "-m", "fttrain.train")
    assert not config.security.allow_remote_code


def test_a_file_replaces_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "ftd.toml"
    path.write_text('[paths]\nmodel_roots = ["/models", "~/models"]\n[trainer]\nstop_grace_seconds = 5\n')
    config = load(path)
    assert config.paths.model_roots == (Path("/models"), Path("~/models").expanduser())
    assert config.trainer.stop_grace_seconds == 5.0
    assert config.limits == Config().limits


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    lines = refused(tmp_path, '[daemon]\nlog_fromat = "json"\nlog_level = "loud"\n[limit]\nx = 1\n')
    assert set(lines) == {
        '[daemon] log_fromat: unknown key; did you mean "log_format"?',
        "[daemon] log_level: input should be 'debug', 'info', 'warning' or 'error' (got 'loud')",
        '[limit]: unknown key; did you mean "limits"?',
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[security]\nzzz = 1", "[security] zzz: unknown key; known are allow_remote_code, allow_hub"),
        ('[paths]\ndata_roots = ["here"]', "[paths] data_roots[0]: must be an absolute path (got 'here')"),
        ('[trainer]\nthreads = "4"', "[trainer] threads: input should be a valid integer (got '4')"),
        ("[trainer]\nthreads = -1", "[trainer] threads: input should be greater than or equal to 0 (got -1)"),
        ('[devices]\ninventory = "file"', '[devices]: file goes with inventory = "file", and only with it'),
        ('[devices]\nfile = "/gpus"', '[devices]: file goes with inventory = "file", and only with it'),
        ('[queue]\nbackfill = "eas"', "[queue] backfill: input should be 'none', 'fill' or 'easy' (got 'eas')"),
        ("[queue.weights]\nnlp = 0", "[queue.weights] nlp: input should be greater than 0 (got 0)"),
        ('[queue.weights]\n"No name" = 1', "[queue.weights] No name: is no name of a project; accepted is 1 to 63 of"),
        ("[queue.quotas.nlp]\ndevices = -1", "[queue.quotas.nlp] devices: input should be greater than or equal to 0"),
        ("[queue.quotas.nlp]\nruning = 1", '[queue.quotas.nlp] runing: unknown key; did you mean "running"?'),
        ('[devices.gpu_policies]\nGPU-1 = "x"', "[devices.gpu_policies] GPU-1: input should be 'share' or 'exclusive'"),
        ("[trainer]\nrank_command = []", "[trainer] rank_command: tuple should have at least 1 item"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (told,) = refused(tmp_path, text)
    assert told.startswith(line)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "[daemon\n")[0].startswith("not valid TOML: ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read: No such file or directory"):
        load(tmp_path / "nowhere.toml")


def test_the_socket_lies_where_the_service_manager_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/finetuned")
    assert load(None).daemon.socket_path == Path("/var/lib/finetuned/ftd.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert load(None).daemon.socket_path == Path("/run/user/7/finetuned/ftd.sock")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/finetuned")
    assert load(None).daemon.socket_path == Path("/run/finetuned/ftd.sock")


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, f'[daemon]\nsocket = "/{"a" * 120}"\n')
    assert line == "[daemon]: the socket's path has 121 bytes, at most 107 work; set socket"
