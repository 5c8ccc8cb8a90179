"""Which tool a file is for, what a script says, overrides, and what cannot be read at all."""

from __future__ import annotations

import pytest
from tests.unit.ftctl.conftest import Run
from tests.unit.ftctl.importing.conftest import EXAMPLES, place

from ftclient.errors import FtError
from ftctl.importing import reading
from ftctl.importing.commandline import commands
from ftctl.importing.ours import OURS
from ftd.methods import Freeze, Lora
from ftd.resolve import resolve
from ftd.spec import DeviceKind, Model, TrainingSpec
from ftd.stages import Dpo


def tool_of(text: str, source: str = "f.yaml") -> str:
    return reading.report(text, source, place()).tool


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ("model_name_or_path: a/b\nstage: sft", "llamafactory"),
        ('{"model": "a/b", "train_type": "lora", "dataset": ["x.jsonl"]}', "swift"),
        ("base_model: a/b\nmicro_batch_size: 1", "axolotl"),
        ("swift sft --model a/b --dataset x.jsonl", "swift"),
        ("torchrun --nproc_per_node 2 src/train.py --stage sft --do_train", "llamafactory"),
        ("model: a/b\npeft_config: {name: lora}\ntrain_dataset: x", "llamafactory"),
    ],
)
def test_the_tool_is_seen(text: str, tool: str) -> None:
    assert tool_of(text) == tool


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2", "cannot tell"),
        ("- a\n- b", "no keys"),
        ("a: 1\na: 2", "duplicate"),
        ("a: [", "cannot read"),
        ("echo hello", "not one training"),
        ("swift sft --model a/b\nswift pt --model a/b", "starts 2"),
        ("llamafactory-cli train nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, said: str) -> None:
    with pytest.raises(FtError) as caught:
        tool_of(text)
    assert said in f"{caught.value} {caught.value.why}"


def test_a_script_is_read_as_a_shell_would() -> None:
    text = """
    n=2  # not this
    count=4
    export WANDB_PROJECT=mine
    GPUS=1 swift sft \\
        --dataset 'a b.jsonl#5' c.jsonl \\
        --flag --rate=1e-4 \\
        --steps $(expr 16 / $count) --empty $((2 * 3))
    """
    [found] = commands(text)
    assert found.keys == {
        "command": "sft",
        "$WANDB_PROJECT": "mine",
        "$GPUS": "1",
        "dataset": ["a b.jsonl#5", "c.jsonl"],
        "flag": True,
        "rate": "1e-4",
        "steps": "4",
        "empty": "6",
    }


def test_an_override_reaches_into_lists(ftctl: Run) -> None:
    file = str(EXAMPLES / "axolotl" / "lora_8bit.yml")
    data = str(EXAMPLES / "data" / "answers.json")
    done = ftctl("import", file, "--set", f"datasets.0.path={data}", "--set", "load_in_8bit=null")
    assert done.code == 0
    assert data in done.out


def test_an_override_of_nothing_is_an_error(ftctl: Run) -> None:
    assert ftctl("import", str(EXAMPLES / "axolotl" / "full.yml"), "--set", "datasets.7.path=x").code == 1


def test_a_file_that_is_not_there(ftctl: Run) -> None:
    done = ftctl("import", "nowhere.yaml")
    assert (done.code, done.out) == (1, "")
    assert "cannot read nowhere.yaml" in done.err


def test_what_is_said_of_our_defaults_is_what_the_daemon_does() -> None:
    spec = resolve(TrainingSpec(model=Model(path="/m")), DeviceKind.CPU, None)
    assert isinstance(spec.method, Lora)
    found = {
        "optimizer.weight_decay": spec.optimizer.weight_decay,
        "optimizer.beta2": spec.optimizer.beta2,
        "schedule.name": spec.schedule.name,
        "schedule.epochs": spec.schedule.epochs,
        "schedule.warmup_ratio": spec.schedule.warmup_ratio,
        "batch.micro_batch": spec.batch.micro_batch,
        "data.long_rows": str(spec.data.long_rows),
        "checkpoints.cadence": str(spec.checkpoints.cadence),
        "checkpoints.keep": spec.checkpoints.keep,
        "lora.dropout": spec.method.dropout,
    }
    assert found == {name: OURS[name] for name in found}
    assert spec.method.alpha == 2 * (spec.method.rank or 0)
    rates = [
        resolve(TrainingSpec(model=Model(path="/m"), **choice), DeviceKind.GPU, None).optimizer.learning_rate
        for choice in ({}, {"method": Freeze()}, {"stage": Dpo()})
    ]
    assert rates == [1e-4, 1e-5, 5e-6]
