"""What becomes of a spec at the door, and what a user reads when it is turned away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftclient import specfile
from ftd.datasets import Columns, Data, DataSource, Format
from ftd.errors import InvalidSpec, TooLarge
from ftd.intake import Intake
from ftd.methods import Freeze, Lora
from ftd.models import HostPolicy
from ftd.paths import PathRoots, Roots
from ftd.secrets import Secrets
from ftd.spec import (
    Attention,
    Batch,
    DeviceKind,
    GgufType,
    JobSpec,
    Model,
    Output,
    Push,
    Resources,
    Sharing,
    TrainingSpec,
)
from ftd.stages import Dpo, Pretrain
from ftd.wire import read_spec
from ftsched.model import Device

GIB = 2**30
CPU = Device("cpu", "host", "cpu", "CPU", -1, 64 * GIB, 0)
GPU = Device("GPU-a", "host", "gpu", "Large", 0, 80 * GIB, 0)
CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


class Host:
    """A host with a model, a data file and an intake, all below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "models" / "SmolLM2-135M Instruct"
        self.model.mkdir(parents=True)
        (self.model / "config.json").write_text(json.dumps(CONFIG))
        (self.model / "model.safetensors").write_bytes(b"")
        (self.model / "tokenizer.json").write_text("{}")
        (self.model / "chat_template.jinja").write_text("{{ messages }}")
        self.data = self.write("rows.jsonl", '{"messages": []}\n')
        (folder / "outputs").mkdir()
        self.roots = PathRoots(*(Roots((folder / name,)) for name in ("models", "data", "outputs")))

    def write(self, name: str, text: str) -> str:
        path = self.folder / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    def spec(self, **changes: Any) -> JobSpec:
        training = TrainingSpec(model=Model(path=str(self.model)), data=Data(train=(DataSource(self.data),)))
        return JobSpec(training=replace(training, **changes))

    def intake(self, **policy: Any) -> Intake:
        return Intake(self.roots, HostPolicy(**policy))

    def refusals(self, spec: JobSpec, devices: Sequence[Device] = (CPU,), **policy: Any) -> dict[str, str]:
        with pytest.raises(InvalidSpec) as caught:
            self.intake(**policy).accept(spec, devices)
        return {v.field: v.description for v in caught.value.violations}

    def accepts(self, **changes: Any) -> bool:
        return bool(self.intake().accept(self.spec(**changes), (CPU,)))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_good_spec_is_resolved_named_and_estimated(host: Host) -> None:
    accepted = host.intake().accept(host.spec(), (CPU,))
    assert accepted.name == "sft-lora-smollm2-135m-instruct"
    assert accepted.project == "default"
    assert accepted.resolved.resources == Resources(device=DeviceKind.CPU, sharing=Sharing.SHARE)
    assert isinstance(accepted.resolved.method, Lora)
    assert accepted.estimate.sequence_length == 2048
    assert 0 < accepted.estimate.peak_bytes <= accepted.estimate.reserve_bytes < CPU.total_bytes


def test_given_names_stay(host: Host) -> None:
    accepted = host.intake().accept(replace(host.spec(), name="mine", project="ours"), (CPU,))
    assert (accepted.name, accepted.project) == ("mine", "ours")


def test_a_gpu_is_chosen_where_there_is_one(host: Host) -> None:
    accepted = host.intake().accept(host.spec(), (CPU, GPU))
    assert accepted.resolved.resources == Resources(device=DeviceKind.GPU, gpus=1, sharing=Sharing.SHARE)


def test_the_estimate_is_made_again_for_the_length_the_data_has(host: Host) -> None:
    accepted = host.intake().accept(host.spec(), (CPU,))
    shorter = host.intake().estimate(accepted.resolved, 128)
    assert shorter.sequence_length == 128
    assert shorter.peak_bytes < accepted.estimate.peak_bytes


@pytest.mark.parametrize(
    ("given", "gib", "expected"),
    [
        ("batch: {micro_batch: 64, global_batch: 64}", 6.0, "training.batch.micro_batch"),
        ("full: {}", 1.5, "training.lora"),
    ],
)
def test_each_fix_is_a_change_of_the_file_that_makes_it_fit(host: Host, given: str, gib: float, expected: str) -> None:
    file = f"model: {{path: {host.model}}}\ndata: {{train: [{{path: {host.data}}}]}}\n{given}\n"
    small = (replace(GPU, total_bytes=int(gib * GIB)),)
    with pytest.raises(TooLarge) as caught:
        host.intake().accept(read_spec(specfile.read(file).spec), small)
    assert expected in {path for fix in caught.value.fixes for path in fix.changes}
    for fix in caught.value.fixes:
        overrides = [f"{path}={value}" for path, value in fix.changes.items()]
        changed = read_spec(specfile.read(file, overrides).spec)
        assert host.intake().accept(changed, small).estimate.reserve_bytes <= gib * GIB


def test_the_files_of_a_source_are_spelled_out(host: Host) -> None:
    files = tuple(host.write(f"d/{name}.jsonl", '{"messages": []}') for name in "ab")
    info = host.write("dataset_info.json", '{"mine": {"file_name": "d", "columns": {"prompt": "q", "response": "a"}}}')
    data = Data(train=(DataSource(str(host.folder / "data" / "d")), DataSource(dataset_info=info, name="mine")))
    accepted = host.intake().accept(host.spec(data=data), (CPU,))
    first, second = accepted.resolved.data.train
    assert first.files == second.files == files
    assert (second.format, second.columns) == (Format.ALPACA, Columns(instruction="q", output="a", only=True))


def test_what_an_entry_describes_must_fit_the_stage(host: Host) -> None:
    info = host.write("dataset_info.json", '{"mine": {"file_name": "rows.jsonl"}}')
    mine = Data(train=(DataSource(dataset_info=info, name="mine"),))
    assert host.refusals(host.spec(data=mine, stage=Dpo())) == {
        "training.data.train[0].format": "is alpaca, whose rows dpo cannot train on; accepted is preference"
    }
    theirs = Data(train=(DataSource(dataset_info=info, name="theirs", weight=0.0),))
    assert list(host.refusals(host.spec(data=theirs))) == [
        "training.data.train[0].weight",
        "training.data.train[0].dataset_info",
    ]


def test_an_estimate_of_a_model_that_is_gone_is_refused(host: Host) -> None:
    accepted = host.intake().accept(host.spec(), (CPU,))
    (host.model / "config.json").unlink()
    with pytest.raises(InvalidSpec, match=r"training\.model\.path: has no config\.json"):
        host.intake().estimate(accepted.resolved, 128)


def test_problems_of_text_files_model_and_devices_are_told_at_once(host: Host) -> None:
    (host.model / "tokenizer.json").unlink()
    spec = host.spec(
        data=Data(train=(DataSource(str(host.folder / "data" / "no.csv")), DataSource("relative.csv"))),
        batch=Batch(micro_batch=2, global_batch=5),
        resources=Resources(device=DeviceKind.GPU),
    )
    assert list(host.refusals(replace(spec, priority=1000))) == [
        "priority",
        "training.data.train[1].path",
        "training.batch.global_batch",
        "training.model.path",
        "training.data.train[0].path",
        "training.resources.device",
    ]


def test_a_missing_model_folder(host: Host) -> None:
    path = f"{host.model}-2"
    text = f"is {path}, which does not exist on the daemon's host; accepted is an existing folder"
    spec = host.spec(model=Model(path=path))
    assert host.refusals(spec) == {"training.model.path": text}


def test_a_missing_data_file(host: Host) -> None:
    path = str(host.folder / "data" / "no.jsonl")
    text = f"is {path}, which does not exist on the daemon's host; accepted is an existing file"
    data = Data(train=(DataSource(host.data),), eval=(DataSource(path),))
    assert host.refusals(host.spec(data=data)) == {"training.data.eval[0].path": text}


def test_an_empty_data_file(host: Host) -> None:
    data = Data(train=(DataSource(host.write("empty.csv", "")),))
    text = "is empty; accepted is a file with at least one row"
    assert host.refusals(host.spec(data=data)) == {"training.data.train[0].path": text}


def test_a_data_file_outside_the_roots(host: Host) -> None:
    data = Data(train=(DataSource("/etc/passwd.txt"),))
    text = f"is outside the folders this host allows here; accepted is a path below {host.folder / 'data'}"
    assert host.refusals(host.spec(data=data)) == {"training.data.train[0].path": text}


@pytest.mark.parametrize(
    ("source", "row"),
    [
        (DataSource(format=Format.ALPACA), "{}"),
        (DataSource(format=Format.MESSAGES), "not read"),
        (DataSource(), '{"messages": []}'),
        (DataSource(), '\ufeff{"conversations": []}'),
        (DataSource(), '{"instruction": "", "output": ""}\n{"text": ""}'),
    ],
)
def test_conversations_need_a_chat_template(host: Host, source: DataSource, row: str) -> None:
    (host.model / "chat_template.jinja").unlink()
    data = Data(train=(replace(source, path=host.write("first.jsonl", row)),))
    text = (
        "is missing: data.train[0] has conversations, and the model has no chat template of its own; "
        "accepted is a template's name, or data.chat_template_path"
    )
    assert host.refusals(host.spec(data=data)) == {"training.data.template": text}
    assert host.accepts(data=replace(data, template="chatml"))
    template = host.write("template.jinja", "{{ messages }}")
    assert host.accepts(data=replace(data, chat_template_path=template))


@pytest.mark.parametrize("chosen", ["[]", "{}"])
def test_pairs_of_turns_need_a_chat_template(host: Host, chosen: str) -> None:
    (host.model / "chat_template.jinja").unlink()
    path = host.write("pairs.jsonl", f'{{"prompt": "", "chosen": {chosen}, "rejected": {chosen}}}')
    data = Data(train=(DataSource(path, format=Format.PREFERENCE),))
    assert list(host.refusals(host.spec(data=data, stage=Dpo()))) == ["training.data.template"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("a.jsonl", '{"prompt": "", "completion": ""}'),
        ("a.jsonl", '{"prompt": "", "chosen": "a", "rejected": "b"}'),
        ("a.jsonl", "not JSON: the preparation says so"),
        ("a.jsonl", "[" * 60000),
        ("a.csv", "messages\n"),
        ("a.txt", "instruction"),
    ],
)
def test_rows_of_plain_or_unknown_text_need_none(host: Host, name: str, row: str) -> None:
    (host.model / "chat_template.jinja").unlink()
    assert host.accepts(data=Data(train=(DataSource(host.write(name, row)),)))


def test_a_template_may_lie_beside_a_model(host: Host) -> None:
    data = Data(train=(DataSource(host.data),), chat_template_path=str(host.model / "chat_template.jinja"))
    assert host.accepts(data=data)


def test_a_template_that_cannot_be_used(host: Host) -> None:
    for path, text in [
        (host.write("empty.jinja", "\n"), "is empty; accepted is a Jinja template"),
        (
            f"{host.data}.no",
            f"is {host.data}.no, which does not exist on the daemon's host; accepted is an existing file",
        ),
    ]:
        data = Data(train=(DataSource(host.data),), chat_template_path=path)
        assert host.refusals(host.spec(data=data)) == {"training.data.chat_template_path": text}


def test_an_output_that_exists_or_lies_elsewhere(host: Host) -> None:
    outputs = host.folder / "outputs"
    assert host.accepts(output=Output(path=str(outputs / "new" / "deep")))
    assert host.refusals(host.spec(output=Output(path=str(outputs)))) == {
        "training.output.path": "exists already; accepted is a path where nothing is yet"
    }
    (outputs / "broken").symlink_to("broken")
    assert host.refusals(host.spec(output=Output(path=str(outputs / "broken")))) == {
        "training.output.path": "exists already; accepted is a path where nothing is yet"
    }
    [text] = host.refusals(host.spec(output=Output(path=str(outputs / ".." / "x")))).values()
    assert text == f"is outside the folders this host allows here; accepted is a path below {outputs}"


def test_longer_rows_than_the_model_reads(host: Host) -> None:
    data = Data(train=(DataSource(host.data),), max_length=8193)
    text = "is 8193, but the model reads at most 8192 tokens; accepted is 8 to 8192"
    assert host.refusals(host.spec(data=data)) == {"training.data.max_length": text}


def test_more_layers_than_the_model_has(host: Host) -> None:
    text = "is 5, but the model has 4 layers; accepted is 1 to 4"
    assert host.refusals(host.spec(method=Freeze(5))) == {"training.freeze.trainable_layers": text}
    assert host.accepts(method=Freeze(4))


def test_an_attention_kernel_that_is_not_installed(host: Host) -> None:
    model = Model(path=str(host.model), attention=Attention.FLASH_ATTENTION_2)
    text = "is flash_attention_2, but the package flash-attn is not installed here; accepted is sdpa or eager"
    assert host.refusals(host.spec(model=model), (GPU,)) == {"training.model.attention": text}


def test_an_attention_kernel_that_the_model_does_not_have(host: Host) -> None:
    (host.model / "config.json").write_text(json.dumps(CONFIG | {"model_type": "gemma2"}))
    sdpa = Model(path=str(host.model), attention=Attention.SDPA)
    text = "is sdpa, which models of type gemma2 do not have; accepted is eager, or flash_attention_2 on a GPU"
    assert host.refusals(host.spec(model=sdpa)) == {"training.model.attention": text}
    assert host.intake().accept(host.spec(), (CPU,)).resolved.model.attention is Attention.EAGER


def test_a_hub_needs_the_hosts_permission_and_a_number_of_bytes(host: Host) -> None:
    spec = host.spec(model=Model(hub_id="owner/Name"))
    assert host.refusals(spec) == {
        "training.model.hub_id": "is given, but this host does not fetch models from a hub; accepted is model.path"
    }
    text = "is missing, but a model on a hub cannot be estimated before it is here; accepted is a number of bytes"
    assert host.refusals(spec, allow_hub=True) == {"training.resources.memory_bytes": text}
    given = host.spec(model=Model(hub_id="owner/Name"), resources=Resources(memory_bytes=GIB))
    accepted = host.intake(allow_hub=True).accept(given, (CPU,))
    assert accepted.name == "sft-lora-name"
    assert accepted.estimate.reserve_bytes == GIB


def test_memory_that_no_device_has(host: Host) -> None:
    small = replace(CPU, total_bytes=2**20)
    assert list(host.refusals(host.spec(), (small,))) == ["training.resources"]
    spec = host.spec(resources=Resources(memory_bytes=65 * GIB))
    text = "is 65.0 GiB, but the largest device has 64.0 GiB; accepted is up to that, or nothing: it is estimated then"
    assert host.refusals(spec) == {"training.resources.memory_bytes": text}


def test_a_smaller_micro_batch_is_advised_where_it_is_enough(host: Host) -> None:
    large = host.intake().accept(host.spec(batch=Batch(micro_batch=16)), (CPU,)).estimate.reserve_bytes
    small = host.intake().accept(host.spec(), (CPU,)).estimate.reserve_bytes
    device = replace(CPU, total_bytes=(large + small) // 2)
    [text] = host.refusals(host.spec(batch=Batch(micro_batch=16)), (device,)).values()
    assert "GiB with batch.micro_batch 8, or " in text


def test_pretraining_needs_no_template(host: Host) -> None:
    (host.model / "chat_template.jinja").unlink()
    source = DataSource(host.write("a.jsonl", '{"messages": ""}'), columns=Columns(text="messages"))
    assert host.accepts(data=Data(train=(source,)), stage=Pretrain())


def test_no_gguf_file_of_a_type_that_none_is_written_of(host: Host) -> None:
    spec = host.spec(output=Output(merge=True, gguf=(GgufType.F16,)))
    assert host.intake().accept(spec, (CPU,)).resolved.output.gguf == (GgufType.F16,)
    (host.model / "config.json").write_text(json.dumps(CONFIG | {"model_type": "gemma2"}))
    text = (
        "is given, but no GGUF files are written of models of type gemma2; accepted with llama, mistral, qwen2, qwen3"
    )
    assert host.refusals(spec) == {"training.output.gguf": text}


def test_an_output_is_pushed_only_where_the_host_uses_a_hub(host: Host) -> None:
    spec = host.spec(output=Output(push=Push(repository="a/b", token_secret="hub")))  # noqa: S106 - its name
    text = "is given, but this host does not use a hub; leave it out"
    assert host.refusals(spec) == {"training.output.push": text}
    assert "this host has none" in host.refusals(spec, allow_hub=True)["training.output.push.token_secret"]
    secrets = Secrets(host.folder)
    (host.folder / "hub").write_text("a token\n")
    (host.folder / "hub").chmod(0o644)
    open_to_all = host.refusals(spec, allow_hub=True, secrets=secrets)
    assert "everybody on the host can read" in open_to_all["training.output.push.token_secret"]
    (host.folder / "hub").chmod(0o600)
    accepted = host.intake(allow_hub=True, secrets=secrets).accept(spec, (CPU,)).resolved.output.push
    assert accepted == Push(repository="a/b", private=True, token_secret="hub")  # noqa: S106
