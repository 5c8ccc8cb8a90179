# ruff: noqa: E501 - a message is easier to compare in one piece
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finetuned.v1 import job_pb2, training_pb2
from ftclient import SpecFileError, load_spec
from ftclient.fields import plain
from ftclient.specfile import from_mapping, read
from ftclient.units import DURATION_FORMS, TIME_FORMS

METHODS = "lora, qlora, full, freeze, adalora, vera, oft, boft, ia3, prefix_tuning, prompt_tuning or p_tuning"
STAGES = "sft, pretrain, dpo, reward, kto, orpo, cpo, grpo, rloo, ppo, distill, evaluate, export or chat"
MINIMAL = """\
model: {path: /models/smol}
data:
  train:
    - path: /data/a.jsonl
"""

FULL = """\
name: support-v3
labels: {team: cx, version: 3}
model:
  path: models/smol
  dtype: bf16
  attention: auto
data:
  train:
    - path: ~/a.jsonl
      format: alpaca
      weight: 0.5
  eval_split: 0.1
qlora:
  lora: {rank: 16, target_modules: all-linear}
optimizer:
  learning_rate: 1e-4
schedule:
  max_steps: 1e3
resources:
  memory_bytes: 24GiB
  device: GPU
"""


def problems(text: str, *overrides: str) -> list[str]:
    return [f"{p.line}|{p.field}|{p.description}" for p in read(text, overrides).problems]


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/data")
    file = tmp_path / "job.yaml"
    file.write_text(FULL)
    spec = load_spec(file)
    training = spec.training
    assert dict(spec.labels) == {"team": "cx", "version": "3"}
    assert training.model.path == f"{tmp_path}/models/smol"
    assert training.model.dtype == training_pb2.DTYPE_BF16
    assert not training.model.HasField("attention")
    assert training.data.train[0].path == "/srv/data/a.jsonl"
    assert training.optimizer.learning_rate == 1e-4
    assert training.schedule.max_steps == 1000
    assert training.WhichOneof("method") == "qlora"
    assert list(training.qlora.lora.target_modules) == ["all-linear"]
    assert training.resources.memory_bytes == 24 * 1024**3
    assert training.resources.device == training_pb2.DEVICE_KIND_GPU


def test_fields_may_stand_under_training() -> None:
    nested = "training:\n" + "".join(f"  {line}\n" for line in MINIMAL.splitlines())
    assert read(nested, ["schedule.max_steps=5", "training.seed=1"]).spec == (
        read(MINIMAL, ["schedule.max_steps=5", "training.seed=1"]).spec
    )


@pytest.mark.parametrize("text", ["lora:\n", "lora: {}\n"])
def test_a_method_with_nothing_to_say_is_chosen_all_the_same(text: str) -> None:
    assert read(MINIMAL + text).spec.training.WhichOneof("method") == "lora"


def test_unset_stays_unset() -> None:
    spec = read(MINIMAL + "seed:\nbatch: {micro_batch: }\n").spec
    assert not spec.training.HasField("seed")
    assert not spec.training.batch.HasField("micro_batch")
    assert read(MINIMAL + "seed: 0\n").spec.training.HasField("seed")


def test_what_is_plain_fills_the_same_message_again() -> None:
    spec = read(FULL).spec
    assert from_mapping(plain(spec)) == spec
    assert plain(spec)["training"]["qlora"] == {"lora": {"rank": 16, "target_modules": ["all-linear"]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: {}\n", "5|modle|no such field; did you mean model?"),
        ("learning_rate: 1e-4\n", "5|learning_rate|no such field here; did you mean optimizer.learning_rate?"),
        ("nmae: x\n", "5|nmae|no such field; did you mean name?"),
        ("lora: {rnak: 4}\n", "5|lora.rnak|no such field; did you mean lora.rank?"),
        ("lora:\n  max_step: 4\n", "6|lora.max_step|no such field; did you mean schedule.max_steps?"),
        ("pretrain: {zzz: 4}\n", "5|pretrain.zzz|no such field; accepted here: nothing"),
        ("kto: {zzz: 4}\n", "5|kto.zzz|no such field; accepted here: beta, desirable_weight, undesirable_weight"),
        ("seed: true\n", "5|seed|expected a whole number, got true"),
        ("seed: 1.5\n", "5|seed|expected a whole number, got 1.5"),
        ("seed: -1\n", "5|seed|-1 is out of range for this field"),
        ("seed: .inf\n", "5|seed|expected a whole number, got inf"),
        ("seed: '7'\n", "5|seed|expected a whole number, got the text '7'; leave the quotes out"),
        ("optimizer: {beta1: lots}\n", "5|optimizer.beta1|expected a number, got the text 'lots'"),
        ("hold: yes\n", "5|hold|expected true or false, got the text 'yes'"),
        ("name: 1.10\n", "5|name|expected text, got 1.1; put it in quotes"),
        ("labels: {a: true}\n", "5|labels.a|expected text, got true; put it in quotes"),
        ("labels: [a]\n", "5|labels|expected a mapping of names to values, got a list"),
        ("compute: {precision: bf17}\n", "5|compute.precision|expected fp32, bf16, fp16 or auto, got the text 'bf17'; did you mean bf16?"),
        ("evaluation: {cadence: 5}\n", "5|evaluation.cadence|expected never, steps, epoch or auto, got 5"),
        ("batch: 8\n", "5|batch|expected a mapping with micro_batch, global_batch or group_by_length, got 8"),
        ("full: 1\n", "5|full|expected {}, got 1"),
        ("resources: {gpu_uuids: {a: b}}\n", "5|resources.gpu_uuids|expected a list (each item begins with `- `), got a mapping"),
        ("resources: {memory_bytes: 24G}\n", "5|resources.memory_bytes|'24G' is not a size; accepted: bytes as a number, or e.g. 500MiB, 24GiB (powers of 1024), 24GB (powers of 1000)"),
        ("lora: {}\nfull: {}\n", f"6|method|lora and full are given and exclude each other; keep one of {METHODS}"),
        ("sft: {}\ndpo: {}\npretrain:\n", f"7|stage|sft, pretrain and dpo are given and exclude each other; keep one of {STAGES}"),
        ("deadline: 2h\n", f"5|deadline|'2h' is not a time; accepted: {TIME_FORMS}"),
        ("deadline: 2027-01-31\n", f"5|deadline|2027-01-31 does not say which time zone it is in; accepted: {TIME_FORMS}"),
        ("deadline: 2027-01-31 18:00:00\n", f"5|deadline|2027-01-31 18:00:00 does not say which time zone it is in; accepted: {TIME_FORMS}"),
        ("not_before: in a while\n", f"5|not_before|'a while' is not a duration; accepted: {DURATION_FORMS}"),
        ("not_before: [1]\n", "5|not_before|expected text, got a list; put it in quotes"),
        ("after: [{job: a, when: any}]\n", "5|after[0].when|no such field; accepted here: condition, job"),
        ("training: 5\n", "5|training|expected a mapping with model, data, …"),
    ],
)  # fmt: skip
def test_each_mistake_says_where_what_and_what_is_accepted(text: str, expected: str) -> None:
    assert expected in problems(MINIMAL + text)


def test_every_problem_is_found_and_the_rest_is_read() -> None:
    text = MINIMAL + "seed: x\nlora: {rank: 8, alpa: 2}\nbatch: {micro_batch: 2}\nepochs: 3\n"
    found = read(text)
    assert [problem.field for problem in found.problems] == ["seed", "lora.alpa", "epochs"]
    assert found.spec.training.lora.rank == 8
    assert found.spec.training.batch.micro_batch == 2


def test_data_without_a_list() -> None:
    assert problems("data:\n  train:\n    path: a.jsonl\n") == [
        "2|data.train|expected a list (each item begins with `- `), got a mapping"
    ]
    assert problems("data:\n  train:\n    - 5\n") == [
        (
            "3|data.train[0]|expected a mapping with path, format, columns, weight, max_samples, name, dataset_info, "
            "num_samples, shuffle, eval_split, files, speakers or dataset, got 5"
        )
    ]


def test_a_text_in_a_list_is_its_first_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "data: {train: [a.jsonl], eval: b.jsonl}\nafter: [prep-job, {job: other, condition: any}]\n"
    spec = read(text, base=tmp_path).spec
    assert [source.path for source in spec.training.data.train] == [f"{tmp_path}/a.jsonl"]
    assert [source.path for source in spec.training.data.eval] == [f"{tmp_path}/b.jsonl"]
    assert [plain(each) for each in spec.after] == [{"job": "prep-job"}, {"job": "other", "condition": "any"}]
    monkeypatch.chdir(tmp_path)
    overridden = read(text, ["data.train.1=c.jsonl", "data.eval=d.jsonl"], base=Path("/elsewhere")).spec.training.data
    assert overridden.train[1].path == f"{tmp_path}/c.jsonl"
    assert overridden.eval[0].path == f"{tmp_path}/d.jsonl"


def test_a_url_and_a_dataset_info_are_places_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "data: {train: [s3://bucket/a.jsonl, {dataset_info: info.json, name: a}, 'sets/*.csv']}\n"
    monkeypatch.chdir(tmp_path)
    spec = read(text, ["data.eval=https://host/b.csv"], base=tmp_path).spec.training.data
    assert [source.path for source in spec.train] == ["s3://bucket/a.jsonl", "", f"{tmp_path}/sets/*.csv"]
    assert spec.train[1].dataset_info == f"{tmp_path}/info.json"
    assert spec.eval[0].path == "https://host/b.csv"


def test_times() -> None:
    before = datetime.now(UTC)
    spec = read(MINIMAL + "not_before: in 1h30m\ndeadline: 2027-01-31T18:00:00+02:00\n").spec
    assert timedelta(hours=1.5) <= spec.not_before.ToDatetime(UTC) - before < timedelta(hours=1.6)
    assert spec.deadline.ToJsonString() == "2027-01-31T16:00:00Z"
    assert plain(spec)["deadline"] == "2027-01-31T16:00:00Z"
    quoted = read(MINIMAL, ["deadline='2027-01-31T18:00:00Z'"]).spec
    assert quoted.deadline.ToJsonString() == "2027-01-31T18:00:00Z"


def test_what_is_chosen_on_the_command_line_replaces_the_choice_of_the_file() -> None:
    found = read(MINIMAL + "lora: {rank: 8}\n", ["qlora.lora.rank=16"])
    assert not found.problems
    assert found.spec.training.WhichOneof("method") == "qlora"
    assert found.spec.training.qlora.lora.rank == 16


def test_fields_at_both_places() -> None:
    assert problems("training:\n  seed: 1\nbatch: {}\n") == [
        "3|batch|with `training:` in the file, every field of the training goes under it"
    ]


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("", None, "the file is empty; it needs at least `model` and `data`"),
        ("- a\n", 1, "expected `field: value` lines, e.g. `model:`, `data:`"),
        ("seed: 1\nname: a\nseed: 2\n", 3, "is given twice in one mapping; keep one"),
        ("model:\n\tpath: x\n", 2, "a tab; indent with spaces"),
        ("a: [1\n", 2, "not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", 1, "not YAML: mapping values are not allowed here"),
        ("a: *b\n", 1, "not YAML: found undefined alias 'b'"),
        ("a: \x07\n", None, "not YAML: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_what_is_not_a_spec_at_all(text: str, line: int | None, expected: str) -> None:
    with pytest.raises(SpecFileError) as caught:
        read(text, source="job.yaml")
    (problem,) = caught.value.problems
    assert (problem.description, problem.line) == (expected, line)
    assert str(caught.value).startswith("job.yaml has 1 problem: ")


def test_overrides() -> None:
    overrides = [
        "data.train.0.weight=2",
        "data.train.1.path=/data/b.jsonl",
        "data.train[1].format=text",
        "optimizer.learning_rate=1e-5",
        "name=other",
        "labels.team=cx",
        "full={}",
        "resources.gpu_uuids=[a, b]",
    ]
    spec = read(MINIMAL, overrides).spec
    assert [(s.path, s.weight) for s in spec.training.data.train] == [("/data/a.jsonl", 2), ("/data/b.jsonl", 0)]
    assert spec.training.data.train[1].format == training_pb2.FORMAT_TEXT
    assert spec.training.optimizer.learning_rate == 1e-5
    assert (spec.name, dict(spec.labels)) == ("other", {"team": "cx"})
    assert spec.training.WhichOneof("method") == "full"
    assert list(spec.training.resources.gpu_uuids) == ["a", "b"]


def test_a_path_in_an_override_starts_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = read(MINIMAL, ["model.path=m", "data.chat_template_path=t.jinja"], base=Path("/elsewhere")).spec
    assert spec.training.model.path == f"{tmp_path}/m"
    assert spec.training.data.chat_template_path == f"{tmp_path}/t.jinja"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "expected field=value, e.g. schedule.max_steps=20"),
        ("=1", "expected field=value, e.g. schedule.max_steps=20"),
        ("data.train.5.path=x", "'5' is not a place in the list; accepted: 0 to 1"),
        ("data.train.first.path=x", "'first' is not a place in the list; accepted: 0 to 1"),
        ("model.path.deep=x", "path is a single value in the file; nothing can be set inside it"),
    ],
)
def test_an_override_that_cannot_be_meant(override: str, expected: str) -> None:
    assert problems(MINIMAL, override) == [f"None|--set {override}|{expected}"]


def test_an_override_inside_an_item_that_is_a_single_value() -> None:
    found = read("model: {path: m}\ndata: {train: [a.jsonl]}\n", ["data.train.0.format=text"])
    assert [p.description for p in found.problems] == ["0 is a single value in the file; nothing can be set inside it"]


def test_the_line_of_what_the_daemon_complains_about() -> None:
    found = read(MINIMAL + "batch:\n  global_batch: 7\n")
    assert found.line_of("training.batch.global_batch") == 6
    assert found.line_of("training.data.train[0].path") == 4
    assert found.line_of("training.batch.micro_batch") == 5
    assert found.line_of("training.optimizer.name") is None


def test_a_mapping_is_a_spec_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = from_mapping({"model": {"path": "m"}, "lora": {"rank": 4}, "resources": {"memory_bytes": "1GiB"}})
    assert spec.training.model.path == f"{tmp_path}/m"
    with pytest.raises(SpecFileError, match=r"did you mean lora\.rank"):
        from_mapping({"lora": {"rnk": 4}})


def test_every_field_of_the_contract_can_be_written() -> None:
    from ftclient.fields import paths

    known = set(paths(job_pb2.JobSpec.DESCRIPTOR))
    assert {"training.qlora.lora.rank", "labels", "training.data.train[0].columns.chosen"} <= known
