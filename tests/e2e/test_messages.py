"""What a user reads when something is wrong: the words of `ftctl` on standard error, and its exit code.

One real daemon with two small declared GPUs, and the real preparation; nothing is trained. Every message says where,
what was found and what would be accepted, and leaves no job behind that waits for a device.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.hands import RealDaemon, ftctl

from ftclient import Client

GPUS = """
[[gpu]]
uuid = "GPU-0"
total_bytes = 25_769_803_776
[[gpu]]
uuid = "GPU-1"
total_bytes = 25_769_803_776
"""
SPEC = """\
name: careful
model:
  path: {model}
data:
  train:
    - path: {rows}
  max_length: 64
"""
LONG = "and so on " * 40
MAY_MOUNT = not subprocess.run(["sh", "-c", "unshare -rm true"], check=False, capture_output=True).returncode
CORRECT_IT = " next: correct it, then check with `ftctl validate -f job.yaml`"
CORRECT_THEM = " next: correct them, then check with `ftctl validate -f job.yaml`"


@pytest.fixture(scope="module")
def daemon(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    root = tmp_path_factory.mktemp("messages")
    (root / "gpus.toml").write_text(GPUS)
    (root / "rows.jsonl").write_text(row("Hello.") * 4)
    with RealDaemon(root, smol_nano, devices={"inventory": "file", "file": str(root / "gpus.toml")}) as daemon:
        yield daemon


def row(answer: str, question: str = "Hi.") -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


def spec(more: str = "", *, model: str = "smol-nano", rows: str = "rows.jsonl") -> str:
    return SPEC.format(model=model, rows=rows) + more


def model_without(daemon: RealDaemon, *files: str) -> Path:
    """A model folder that lacks some files."""
    folder = daemon.root / f"without-{files[0].strip('*.')}"
    return shutil.copytree(daemon.root / "smol-nano", folder, ignore=shutil.ignore_patterns(*files))


def model_with(daemon: RealDaemon, name: str, config: str) -> Path:
    """A model folder with another config.json."""
    folder = shutil.copytree(daemon.root / "smol-nano", daemon.root / name)
    (folder / "config.json").write_text(config)
    return folder


def problems(daemon: RealDaemon, text: str) -> list[str]:
    """The problems that a submit of this spec is refused with. It leaves no job."""
    with Client(daemon.address) as client:
        before = [job.id for job in client.list()]
        said = daemon.ftctl("submit", "-f", "job.yaml", spec=text)
        assert [job.id for job in client.list()] == before
    assert (said.code, said.out) == (1, "")
    heading, *found, advice = said.err.splitlines()
    one = len(found) == 1
    assert heading == f"error: job.yaml has {len(found)} problem{'' if one else 's'}"
    assert advice == (CORRECT_IT if one else CORRECT_THEM)
    return [line.strip() for line in found]


def problem(daemon: RealDaemon, text: str) -> str:
    """The only problem of a spec."""
    (found,) = problems(daemon, text)
    return found


def failure(daemon: RealDaemon, text: str) -> list[str]:
    """Message and advice of a job whose preparation refuses its data. It never waited for a device."""
    said = daemon.ftctl("submit", "-f", "job.yaml", "--wait", spec=text)
    assert said.code == 100
    job = said.out.split()[0]
    with Client(daemon.address) as client:
        assert [move.to_state for move in client.get(job).transitions] == ["preparing", "failed"]
    error, why, advice = said.err.splitlines()
    assert why == "  why: data_invalid"
    return [error.removeprefix(f"error: job {job} (careful) failed: "), advice.removeprefix(" next: ")]


def failure_of_rows(daemon: RealDaemon, name: str, rows: str, more: str = "") -> list[str]:
    (daemon.root / name).write_text(rows)
    return failure(daemon, spec(more, rows=name))


# The spec


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("modle:\n  path: other\n", "job.yaml:8: modle: no such field; did you mean model?"),
        ("lora:\n  rnak: 8\n", "job.yaml:9: lora.rnak: no such field; did you mean lora.rank?"),
        (
            "learning_rate: 1e-4\n",
            "job.yaml:8: learning_rate: no such field here; did you mean optimizer.learning_rate?",
        ),
    ],
)
def test_an_unknown_field(daemon: RealDaemon, more: str, told: str) -> None:
    assert problem(daemon, spec(more)) == told


def test_several_problems_are_told_at_once_whoever_finds_them(daemon: RealDaemon) -> None:
    more = """\
optimizer:
  learning_rate: fast
schedule:
  name: wavy
  epochs: 1
  max_steps: 5
lora:
  rank: 0
"""
    assert problems(daemon, spec(more, model="nowhere")) == [
        "job.yaml:9: optimizer.learning_rate: expected a number, got the text 'fast'",
        (
            "job.yaml:11: schedule.name: is 'wavy'; accepted is one of cosine, linear, constant, constant_with_warmup, "
            "inverse_sqrt, polynomial, cosine_with_restarts, cosine_with_min_lr, cosine_warmup_with_min_lr, "
            "warmup_stable_decay, reduce_lr_on_plateau"
        ),
        "job.yaml:15: lora.rank: is 0; accepted is 1 to 1024",
        "job.yaml:13: schedule.max_steps: stands beside schedule.epochs; accepted is one of the two",
        (
            f"job.yaml:3: model.path: is {daemon.root / 'nowhere'}, which does not exist on the daemon's host; "
            "accepted is an existing folder"
        ),
    ]


def test_batch_sizes_that_do_not_divide(daemon: RealDaemon) -> None:
    assert problem(daemon, spec("batch:\n  micro_batch: 3\n  global_batch: 8\n")) == (
        "job.yaml:10: batch.global_batch: is 8, which micro_batch 3 on 1 device does not divide; "
        "accepted is a multiple of 3, e.g. 6 or 9"
    )


# The model


def test_a_missing_model_folder(daemon: RealDaemon) -> None:
    assert problem(daemon, spec(model="nowhere")) == (
        f"job.yaml:3: model.path: is {daemon.root / 'nowhere'}, which does not exist on the daemon's host; "
        "accepted is an existing folder"
    )


def test_a_model_folder_that_cannot_be_read(daemon: RealDaemon) -> None:
    folder = model_with(daemon, "mangled", '{"model_type": "llama"')
    assert problem(daemon, spec(model=folder.name)) == (
        "job.yaml:3: model.path: has a config.json that is not JSON: Expecting ',' delimiter at line 1, column 23; "
        "accepted is an object"
    )


def test_a_model_folder_that_is_not_allowed(daemon: RealDaemon) -> None:
    assert problem(daemon, spec(model="/usr/lib")) == (
        f"job.yaml:3: model.path: is outside the folders this host allows here; accepted is a path below {daemon.root}"
    )


def test_a_model_without_weights(daemon: RealDaemon) -> None:
    assert problem(daemon, spec(model=model_without(daemon, "*.safetensors").name)) == (
        "job.yaml:3: model.path: has no weights; accepted are *.safetensors files"
    )


def test_a_missing_tokenizer(daemon: RealDaemon) -> None:
    assert problem(daemon, spec(model=model_without(daemon, "tokenizer*").name)) == (
        "job.yaml:3: model.path: has no tokenizer; "
        "accepted is one of tokenizer.json, tokenizer.model, spiece.model, vocab.json, vocab.txt"
    )


def test_a_missing_chat_template(daemon: RealDaemon) -> None:
    model = model_without(daemon, "chat_template.jinja").name
    assert problem(daemon, spec(model=model)) == (
        "job.yaml:4: data.template: is missing: data.train[0] has conversations, and the model has no chat template "
        "of its own; accepted is a template's name, or data.chat_template_path"
    )
    # Rows that only the preparation reads.
    (daemon.root / "rows.json").write_text(f"[{row('Hello.')}]")
    assert failure(daemon, spec(model=model, rows="rows.json")) == [
        (
            "data.train[0]: rows.json holds conversations, and the model's tokenizer has no chat template to "
            "render them with"
        ),
        (
            "set data.template or data.chat_template_path, use the model's instruct version, or give "
            "prompt_completion or text rows"
        ),
    ]


# The data


def test_a_missing_data_file(daemon: RealDaemon) -> None:
    assert problem(daemon, spec(rows="nowhere.jsonl")) == (
        f"job.yaml:6: data.train[0].path: is {daemon.root / 'nowhere.jsonl'}, which does not exist on the daemon's "
        "host; accepted is an existing file"
    )


def test_wrong_columns(daemon: RealDaemon) -> None:
    formats = (
        "preference (chosen, rejected); sharegpt (conversations); messages (messages); "
        "prompt_completion (prompt, completion); alpaca (instruction, output); text (text)"
    )
    assert failure_of_rows(daemon, "columns.jsonl", '{"instruction": "Add.", "ouput": "Done."}\n') == [
        (
            "data.train[0]: columns.jsonl: no format is told by its columns instruction, ouput; "
            f"did you mean 'output' by 'ouput'; accepted are {formats}"
        ),
        "rename the columns, or name them in data.train[0].columns",
    ]


def test_a_column_that_is_not_in_the_file(daemon: RealDaemon) -> None:
    text = spec(rows="named.jsonl").replace("jsonl\n", "jsonl\n      columns:\n        text: boddy\n", 1)
    (daemon.root / "named.jsonl").write_text('{"body": "Once upon a time.", "title": "A tale"}\n')
    assert failure(daemon, text) == [
        "data.train[0].columns.text: named.jsonl has no column 'boddy'; it has body, title; did you mean 'body'",
        "set data.train[0].columns.text to one of them",
    ]


def test_malformed_json(daemon: RealDaemon) -> None:
    rows = row("One.") + row("Two.") + '{"messages": [}\n' + row("Four.")
    assert failure_of_rows(daemon, "malformed.jsonl", rows) == [
        "data.train[0]: malformed.jsonl line 3 is not valid JSON: Expecting value at column 15",
        "mend or remove the line; `python -m json.tool` shows the same place",
    ]


def test_an_empty_data_set(daemon: RealDaemon) -> None:
    (daemon.root / "empty.jsonl").write_text("")
    assert problem(daemon, spec(rows="empty.jsonl")) == (
        "job.yaml:6: data.train[0].path: is empty; accepted is a file with at least one row"
    )
    assert failure_of_rows(daemon, "nothing.json", "[]") == [
        "data.train[0]: nothing.json has no rows",
        "set data.train[0].path to a file with rows",
    ]


def test_a_row_longer_than_max_length(daemon: RealDaemon) -> None:
    (daemon.root / "long.jsonl").write_text(row("Short.") + row(LONG) + row("Short.") + row(LONG))
    text = spec(rows="long.jsonl").replace("max_length: 64", "max_length: 64\n  long_rows: refuse")
    assert failure(daemon, text) == [
        "data.train[0]: long.jsonl has 2 rows over data.max_length 64, numbered 2, 4",
        "raise data.max_length, or set data.long_rows to truncate or drop",
    ]


def test_all_labels_masked(daemon: RealDaemon) -> None:
    assert failure_of_rows(daemon, "masked.jsonl", row("Yes.", question=LONG) * 3) == [
        (
            "data.train[0]: masked.jsonl: no row has a token to train on; 3 of 3 rows, e.g. row 1: "
            "no token of its first 64 tokens (data.max_length) is trained on"
        ),
        "mend the rows, or raise data.max_length if it cuts their answers off",
    ]


# The devices


def test_more_gpus_than_exist(daemon: RealDaemon) -> None:
    assert problem(daemon, spec("resources:\n  gpus: 3\n")) == (
        "job.yaml:9: resources.gpus: is 3, but this host has 2 GPUs; accepted is 1 to 2"
    )


def test_memory_that_no_device_has(daemon: RealDaemon) -> None:
    assert problem(daemon, spec("resources:\n  memory_bytes: 80GiB\n")) == (
        "job.yaml:9: resources.memory_bytes: is 80.0 GiB, but the largest device has 24.0 GiB; "
        "accepted is up to that, or nothing: it is estimated then"
    )


def test_a_model_that_no_device_holds(daemon: RealDaemon) -> None:
    config: dict[str, Any] = json.loads((daemon.root / "smol-nano" / "config.json").read_text())
    config |= {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "head_dim": 128}
    config |= {"num_attention_heads": 64, "num_key_value_heads": 8}
    folder = model_with(daemon, "huge", json.dumps(config))
    assert re.fullmatch(
        r"job\.yaml: resources: needs about \d+\.\d GiB on each device \(.+ GiB and .+ GiB\), "
        r"but the largest device has 24\.0 GiB; accepted is a smaller model",
        problem(daemon, spec("full: {}\n", model=folder.name)),
    )


# Jobs


def test_a_request_id_with_another_spec(daemon: RealDaemon) -> None:
    submit = ("submit", "-f", "job.yaml", "--hold", "-q", "--request-id", "run-17")
    job = daemon.ftctl(*submit, spec=spec()).ok.strip()
    assert daemon.ftctl(*submit, spec=spec()).ok.strip() == job
    said = daemon.ftctl(*submit, spec=spec("seed: 7\nlora:\n  rank: 4\n"))
    assert (said.code, said.out) == (6, "")
    assert said.err.splitlines() == [
        (
            f"error: request_id 'run-17' already made job {job} with another spec; "
            "they differ in training.lora.rank, training.seed"
        ),
        "  why: ALREADY_EXISTS REQUEST_ID_REUSED",
        " next: give a new request_id to make another job, or the old spec to get the job it made",
    ]


@pytest.mark.parametrize(("command", "code"), [("describe", 1), ("cancel", 1), ("logs", 1), ("wait", 102)])
def test_an_unknown_job(daemon: RealDaemon, command: str, code: int) -> None:
    said = daemon.ftctl(command, "nothere")
    assert (said.code, said.out) == (code, "")
    assert said.err.splitlines() == [
        "error: no job has the id, id prefix or name 'nothere'",
        "  why: NOT_FOUND JOB_NOT_FOUND",
        " next: `ftctl get jobs` lists the jobs there are",
    ]


def test_cancel_of_a_finished_job(daemon: RealDaemon) -> None:
    job = daemon.ftctl("submit", "-f", "job.yaml", "--hold", "-q", spec=spec()).ok.strip()
    assert daemon.ftctl("cancel", job).ok == f"{job}  careful  cancelled\n"
    said = daemon.ftctl("cancel", job)
    assert (said.code, said.out) == (6, "")
    assert said.err.splitlines() == [
        f"error: job {job} has already ended: cancelled",
        "  why: FAILED_PRECONDITION JOB_FINISHED",
        " next: `ftctl describe JOB` shows its state and how it came there",
    ]


# The daemon


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    said = ftctl(tmp_path, "get", XDG_RUNTIME_DIR=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    tried = f"unix:{tmp_path}/finetuned/ftd.sock (no such socket); unix:{tmp_path}/state/finetuned/ftd.sock ("
    assert (said.code, said.out) == (5, "")
    error, why, advice = said.err.splitlines()
    assert error == "error: the daemon cannot be reached"
    assert why.startswith(f"  why: tried {tried}")
    assert advice == " next: start it with `ftd` (or `systemctl start ftd`), or set FTD_ADDRESS to where it listens"


@pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount anything")
@pytest.mark.parametrize(
    ("disk", "code", "words"),
    [
        # No room for the job's folder: it is refused.
        (
            "nr_inodes=1",
            6,
            [
                "error: the daemon's disk is full; free space below its state directory",
                "  why: RESOURCE_EXHAUSTED DISK_FULL",
                " next: `ftctl doctor` shows the daemon's disk and jobs",
            ],
        ),
        # Room for the folder, but not for what goes into it.
        (
            "size=4k",
            100,
            [
                "error: job JOB (careful) failed: the daemon's disk is full; free space below its state directory",
                "  why: disk_full",
                " next: free disk space, then retry the job",
            ],
        ),
    ],
)
def test_a_full_disk_under_the_run_directory(
    smol_nano: Path, tmp_path: Path, disk: str, code: int, words: list[str]
) -> None:
    runs = tmp_path / "state" / "runs"
    runs.mkdir(parents=True)
    (tmp_path / "rows.jsonl").write_text(row("Hello."))
    # A disk that only this daemon sees.
    mount = f'mount -t tmpfs -o {disk} full {runs} && exec "$@"'
    with RealDaemon(tmp_path, smol_nano, launcher=("unshare", "-rm", "sh", "-c", mount, "sh")) as daemon:
        said = daemon.ftctl("submit", "-f", "job.yaml", "--wait", spec=spec())
        job = said.out.partition(" ")[0]
        assert (said.code, said.err.replace(job or "-", "JOB").splitlines()) == (code, words)
        assert daemon.ftctl("doctor").code == 0
