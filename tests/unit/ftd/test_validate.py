"""What a user reads for each mistake in a spec."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from finetuned.v1 import job_pb2
from ftd import limits, validate, wire
from ftd.optimizers import TABLE as OPTIMIZERS
from ftd.spec import DeviceKind, JobSpec
from ftd.validate.data import FORMAT_COLUMNS, STAGE_FORMATS
from ftd.validate.problems import listed

GPU, CPU = DeviceKind.GPU, DeviceKind.CPU
GOOD: dict[str, Any] = {"training": {"model": {"path": "/m"}, "data": {"train": [{"path": "/d/a.jsonl"}]}}}


def spec(**changes: Any) -> JobSpec:
    """A good spec with fields set by path: training__batch__global_batch=3, or whole top-level fields."""
    tree = {"training": {**GOOD["training"]}}
    for path, value in changes.items():
        *groups, last = path.split("__")
        node = tree
        for group in groups:
            node[group] = dict(node.get(group) or {})
            node = node[group]
        node[last] = value
    return wire.read_spec(ParseDict(tree, job_pb2.JobSpec()))


def problems(made: JobSpec, device: DeviceKind = GPU) -> dict[str, str]:
    found = validate.check(made, device)
    assert len({v.field for v in found}) == len(found)
    return {v.field: v.description for v in found}


@pytest.mark.parametrize("device", list(DeviceKind))
def test_a_small_spec_is_good(device: DeviceKind) -> None:
    assert problems(spec(), device) == {}


def test_a_spec_that_sets_much_is_good() -> None:
    made = spec(
        name="my-run_1.0",
        labels={"team": "a"},
        priority=-100,
        training__model__dtype="DTYPE_FP16",
        training__data__eval=[{"path": "/d/e.TXT"}, {"path": "/d/e.csv", "format": "FORMAT_ALPACA"}],
        training__data__eval_split=0,
        training__sft={"trainOn": "TRAIN_ON_ALL"},
        training__qlora={"lora": {"rank": 16, "targetModules": ["q_proj", "v_proj"]}},
        training__batch={"microBatch": 2, "globalBatch": 12},
        training__resources={"gpus": 3, "gpuUuids": ["GPU-a", "GPU-b", "GPU-c"]},
        training__evaluation={"cadence": "CADENCE_STEPS", "everySteps": 10, "microBatch": 4},
        training__schedule={"maxSteps": 10, "name": "constant", "warmupRatio": 0},
        training__seed=0,
    )
    assert problems(made) == {}


NAME_TEXT = "1 to 63 of a-z, 0-9, '-', '_', '.', beginning with a letter or digit"
PATH_TEXT = "the absolute path of a file, a folder or a pattern, or a URL"
OPTIMIZERS_TEXT = f"one of {', '.join(OPTIMIZERS)}"
ON_CPU = [name for name, kind in OPTIMIZERS.items() if not kind.needs_gpu]
DPO_LOSSES_TEXT = (
    "sigmoid, hinge, ipo, robust, exo_pair, nca_pair, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, "
    "discopop, sft or sigmoid_norm"
)
SFT_FORMATS_TEXT = "accepted is alpaca, sharegpt, messages, prompt_completion or text"
COLUMNS_TEXT = (
    "alpaca: instruction, input, output, system, history, tools; sharegpt: messages, role, content, system, tools; "
    "messages: messages, role, content, system, tools; prompt_completion: prompt, completion; text: text"
)


@pytest.mark.parametrize(
    ("changes", "field", "description"),
    [
        ({"name": "My Run"}, "name", f"is 'My Run'; accepted is {NAME_TEXT}"),
        ({"name": ""}, "name", f"is ''; accepted is {NAME_TEXT}"),
        ({"project": "-x"}, "project", f"is '-x'; accepted is {NAME_TEXT}"),
        (
            {"labels": {"": "x"}},
            "labels",
            "is {'': 'x'}; accepted is at most 32, with keys of 1 to 63 and values of up to 63 characters",
        ),
        ({"priority": 101}, "priority", "is 101; accepted is -100 to 100"),
        ({"maxRetries": 21}, "max_retries", "is 21; accepted is 0 to 20"),
        ({"training__model__path": "models/a"}, "training.model.path", "is 'models/a'; accepted is an absolute path"),
        (
            {"training__data__train": [{"path": "d/a.csv"}]},
            "training.data.train[0].path",
            f"is 'd/a.csv'; accepted is {PATH_TEXT}",
        ),
        ({"training__data__train": [{}]}, "training.data.train[0].path", f"is ''; accepted is {PATH_TEXT}"),
        (
            {"training__data__train": [{"path": "/a.txt"}, {"path": "/a.csv", "weight": 0}]},
            "training.data.train[1].weight",
            "is 0.0; accepted is over 0 and at most 100",
        ),
        (
            {"training__data__eval": [{"path": "/a.csv", "maxSamples": 0}]},
            "training.data.eval[0].max_samples",
            "is 0; accepted is at least 1",
        ),
        ({"training__data__evalSplit": 1}, "training.data.eval_split", "is 1.0; accepted is 0 or more and less than 1"),
        ({"training__data__maxLength": 4}, "training.data.max_length", "is 4; accepted is at least 8"),
        ({"training__lora": {"rank": 0}}, "training.lora.rank", "is 0; accepted is 1 to 1024"),
        ({"training__lora": {"alpha": "Infinity"}}, "training.lora.alpha", "is inf; accepted is a number over 0"),
        (
            {"training__qlora": {"lora": {"dropout": -0.1}}},
            "training.qlora.lora.dropout",
            "is -0.1; accepted is 0 or more and less than 1",
        ),
        (
            {"training__lora": {"targetModules": ["all-linear", "q_proj"]}},
            "training.lora.target_modules",
            "is ['all-linear', 'q_proj']; accepted is different module names but the head's, or 'all-linear' alone",
        ),
        (
            {"training__freeze": {"trainableLayers": 0}},
            "training.freeze.trainable_layers",
            "is 0; accepted is a number other than 0",
        ),
        (
            {"training__optimizer": {"name": "adam"}},
            "training.optimizer.name",
            f"is 'adam'; accepted is {OPTIMIZERS_TEXT}",
        ),
        (
            {"training__optimizer": {"learningRate": "NaN"}},
            "training.optimizer.learning_rate",
            "is nan; accepted is over 0 and at most 1",
        ),
        (
            {"training__schedule": {"name": "cosinus"}},
            "training.schedule.name",
            f"is 'cosinus'; accepted is one of {', '.join(limits.SCHEDULES)}",
        ),
        (
            {"training__schedule": {"epochs": 0}},
            "training.schedule.epochs",
            "is 0.0; accepted is over 0 and at most 10000",
        ),
        ({"training__batch": {"microBatch": 0}}, "training.batch.micro_batch", "is 0; accepted is at least 1"),
        ({"training__resources": {"gpus": 0}}, "training.resources.gpus", "is 0; accepted is at least 1"),
        ({"training__seed": 2**32}, "training.seed", "is 4294967296; accepted is 0 to 4294967295"),
        # How fields go together.
        (
            {"training__model": {}},
            "training.model.path",
            "is missing; accepted is the absolute path of a model folder, or a model.hub_id or model.from_job instead",
        ),
        (
            {"training__model": {"path": "/m", "hubId": "a/b"}},
            "training.model.hub_id",
            "stands beside model.path; accepted is one of the two",
        ),
        (
            {"training__model": {"path": "/m", "revision": "main"}},
            "training.model.revision",
            "is given without model.hub_id; accepted only with that",
        ),
        ({"training__data": {}}, "training.data.train", "is empty; accepted is at least one source with a path"),
        (
            {"training__data__eval": [{"path": "/e.csv"}], "training__data__evalSplit": 0.1},
            "training.data.eval_split",
            "stands beside data.eval; accepted is one of the two",
        ),
        (
            {"training__data__packing": True, "training__dpo": {}},
            "training.data.packing",
            "is on, but the rows of dpo cannot be packed; leave it out with dpo",
        ),
        (
            {"training__data__chatTemplatePath": "/t.jinja", "training__pretrain": {}},
            "training.data.chat_template_path",
            "is given, but pretrain renders no conversations; leave it out",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "format": "FORMAT_PREFERENCE"}]},
            "training.data.train[0].format",
            f"is preference, whose rows sft cannot train on; {SFT_FORMATS_TEXT}",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "format": "FORMAT_ALPACA"}], "training__dpo": {}},
            "training.data.train[0].format",
            "is alpaca, whose rows dpo cannot train on; accepted is preference",
        ),
        (
            {"training__data__train": [{"path": "/a.txt"}], "training__dpo": {}},
            "training.data.train[0].format",
            "is text, whose rows dpo cannot train on; accepted is preference",
        ),
        (
            {"training__data__train": [{"path": "/a.txt", "format": "FORMAT_ALPACA"}]},
            "training.data.train[0].format",
            "is alpaca, but a .txt file has only text; accepted is text, or another kind of file",
        ),
        (
            {"training__data__train": [{"path": "/a.txt", "columns": {"text": "t"}}]},
            "training.data.train[0].columns",
            "is given, but a .txt file has no columns; leave it out",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "format": "FORMAT_TEXT", "columns": {"chosen": "c"}}]},
            "training.data.train[0].columns.chosen",
            "is no column of the format text; it has text",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "columns": {"messages": "m", "text": "t"}}]},
            "training.data.train[0].columns",
            f"names messages and text, which no format has together; accepted is {COLUMNS_TEXT}",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "shuffle": True}]},
            "training.data.train[0].shuffle",
            "is on, but all rows are taken; accepted with max_samples",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "shuffle": True, "maxSamples": 2, "numSamples": 3}]},
            "training.data.train[0].shuffle",
            "stands beside num_samples, which draws rows by itself; leave it out",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "numSamples": 0}]},
            "training.data.train[0].num_samples",
            "is 0; accepted is at least 1",
        ),
        (
            {"training__data__eval": [{"path": "/e.csv", "name": "a"}, {"path": "/f.csv", "name": "a"}]},
            "training.data.eval[1].name",
            "is a again; accepted is each name once",
        ),
        (
            {"training__data__eval": [{"path": "/e.csv", "evalSplit": 0.5}]},
            "training.data.eval[0].eval_split",
            "is given, but all its rows are evaluated on; leave it out",
        ),
        (
            {
                "training__data__train": [{"path": "/a.csv", "evalSplit": 0.5}],
                "training__data__eval": [{"path": "/e.csv"}],
            },
            "training.data.train[0].eval_split",
            "stands beside data.eval; accepted is one of the two",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "speakers": {"user": "a", "tool": "a"}}]},
            "training.data.train[0].speakers",
            "names a and a; accepted is another name for each",
        ),
        (
            {"training__data__train": [{"path": "/a.csv", "format": "FORMAT_ALPACA", "speakers": {"user": "a"}}]},
            "training.data.train[0].speakers",
            "is given, but the format alpaca has no turns; accepted with sharegpt, messages, preference, kto or prompt",
        ),
        (
            {"training__dpo": {"loss": "DPO_LOSS_IPO", "labelSmoothing": 0.1}},
            "training.dpo.label_smoothing",
            "has no meaning for the loss ipo; accepted with robust, exo_pair, aot or aot_unpaired",
        ),
        (
            {"training__dpo": {"loss": "DPO_LOSS_EXO_PAIR", "labelSmoothing": 0}},
            "training.dpo.label_smoothing",
            "is 0, but exo_pair has no value there; accepted is over 0, e.g. 0.001",
        ),
        (
            {"training__dpo": {"loss": "DPO_LOSS_IPO", "losses": [{"loss": "DPO_LOSS_SFT"}]}},
            "training.dpo.losses",
            "stands beside dpo.loss; accepted is one of the two",
        ),
        (
            {"training__dpo": {"losses": [{"loss": "DPO_LOSS_SFT"}, {"loss": "DPO_LOSS_SFT", "weight": 2}]}},
            "training.dpo.losses[1].loss",
            "names sft again; accepted is each loss once",
        ),
        (
            {"training__dpo": {"losses": [{"weight": 2}]}},
            "training.dpo.losses[0].loss",
            f"is missing; accepted is {DPO_LOSSES_TEXT}",
        ),
        (
            {"training__dpo": {"losses": [{"loss": "DPO_LOSS_SFT", "weight": 0}]}},
            "training.dpo.losses[0].weight",
            "is 0.0; accepted is a number over 0",
        ),
        (
            {"training__dpo": {"ldAlpha": 1.5}},
            "training.dpo.ld_alpha",
            "is 1.5; accepted is 0 to 1",
        ),
        (
            {"training__cpo": {"labelSmoothing": 0.1, "loss": "CPO_LOSS_HINGE"}},
            "training.cpo.label_smoothing",
            "has no meaning for the loss hinge; accepted with sigmoid or simpo",
        ),
        (
            {"training__cpo": {"gamma": 0.5}},
            "training.cpo.gamma",
            "has no meaning for the loss sigmoid; accepted with simpo",
        ),
        (
            {"training__reward": {"centerCoefficient": -1}},
            "training.reward.center_coefficient",
            "is -1.0; accepted is 0 or more",
        ),
        (
            {"training__kto": {"desirableWeight": 0}},
            "training.kto.desirable_weight",
            "is 0.0; accepted is a number over 0",
        ),
        ({"training__orpo": {"beta": 0}}, "training.orpo.beta", "is 0.0; accepted is a number over 0"),
        (
            {"training__kto": {}, "training__batch": {"microBatch": 1}},
            "training.batch.micro_batch",
            "is 1, but kto compares the answers of a micro-batch; accepted is 2 or more",
        ),
        (
            {"training__kto": {}, "training__batch": {"globalBatch": 3}},
            "training.batch.global_batch",
            "is 3, which micro_batch 2 on 1 device does not divide; accepted is a multiple of 2, e.g. 2 or 4",
        ),
        (
            {"training__kto": {}, "training__data__train": [{"path": "/a.csv", "format": "FORMAT_PREFERENCE"}]},
            "training.data.train[0].format",
            "is preference, whose rows kto cannot train on; accepted is kto",
        ),
        (
            {"training__reward": {}, "training__data__train": [{"path": "/a.csv", "format": "FORMAT_KTO"}]},
            "training.data.train[0].format",
            "is kto, whose rows reward cannot train on; accepted is preference",
        ),
        (
            {"training__qlora": {"lora": {"dora": True}}},
            "training.qlora.lora.dora",
            "is on, but works on whole weights only; leave it out with qlora",
        ),
        (
            {"training__optimizer": {"name": "sgd", "beta1": 0.5}},
            "training.optimizer.beta1",
            "is given, but sgd does not use it; leave it out",
        ),
        (
            {"training__schedule": {"epochs": 1, "maxSteps": 5}},
            "training.schedule.max_steps",
            "stands beside schedule.epochs; accepted is one of the two",
        ),
        (
            {"training__schedule": {"warmupRatio": 0.1, "warmupSteps": 5}},
            "training.schedule.warmup_steps",
            "stands beside schedule.warmup_ratio; accepted is one of the two",
        ),
        (
            {"training__schedule": {"name": "constant", "warmupSteps": 5}},
            "training.schedule.warmup_steps",
            "is given, but constant has no warmup; accepted with constant_with_warmup",
        ),
        (
            {"training__batch": {"microBatch": 4, "globalBatch": 10}, "training__resources": {"gpus": 2}},
            "training.batch.global_batch",
            "is 10, which micro_batch 4 on 2 devices does not divide; accepted is a multiple of 8, e.g. 8 or 16",
        ),
        (
            {"training__batch": {"microBatch": 4, "globalBatch": 3}},
            "training.batch.global_batch",
            "is 3, which micro_batch 4 on 1 device does not divide; accepted is a multiple of 4, e.g. 4",
        ),
        (
            {"training__evaluation": {"cadence": "CADENCE_EPOCH"}},
            "training.evaluation.cadence",
            "is epoch, but there is no evaluation data; accepted with data.eval or data.eval_split",
        ),
        (
            {
                "training__compute": {"paddingFree": True},
                "training__model": {"path": "/m", "attention": "ATTENTION_EAGER"},
            },
            "training.compute.padding_free",
            "is on, but eager attention needs padding; accepted with sdpa or flash_attention_2",
        ),
        (
            {"training__compute": {"paddingFree": True, "neftuneNoiseAlpha": 5.0}},
            "training.compute.padding_free",
            "is on, but NEFTune scales its noise by the length of each row; leave it out",
        ),
        (
            {"training__batch": {"groupByLength": True}, "training__kto": {}},
            "training.batch.group_by_length",
            "is on, but the rows of kto have an order of their own; leave it out",
        ),
        (
            {"training__batch": {"groupByLength": True}, "training__pretrain": {}},
            "training.batch.group_by_length",
            "is on, but packed sequences are of one length; leave it out with data.packing",
        ),
        (
            {"training__evaluation": {"microBatch": 2}},
            "training.evaluation.micro_batch",
            "is given, but nothing is evaluated; leave it out, or give data.eval or data.eval_split",
        ),
        (
            {"training__checkpoints": {"cadence": "CADENCE_STEPS"}},
            "training.checkpoints.every_steps",
            "is missing; cadence steps needs a number of updates, at least 1",
        ),
        (
            {"training__checkpoints": {"everySteps": 5}},
            "training.checkpoints.every_steps",
            "is given, but checkpoints.cadence is not given; accepted with cadence steps",
        ),
        (
            {"training__checkpoints": {"cadence": "CADENCE_EPOCH", "everySteps": 5}},
            "training.checkpoints.every_steps",
            "is given, but checkpoints.cadence is epoch; accepted with cadence steps",
        ),
        (
            {"training__resources": {"gpuUuids": ["GPU-a", "GPU-b"]}},
            "training.resources.gpu_uuids",
            "names 2 GPUs, but resources.gpus is 1; accepted is one for each",
        ),
    ],
)
def test_a_mistake_is_named_with_what_would_be_accepted(changes: dict[str, Any], field: str, description: str) -> None:
    assert problems(spec(**changes)) == {field: description}


@pytest.mark.parametrize(
    ("changes", "field", "description"),
    [
        (
            {"model__dtype": "DTYPE_FP16"},
            "model.dtype",
            "is fp16, which a CPU cannot train in; accepted is fp32 or bf16",
        ),
        (
            {"compute__precision": "DTYPE_FP16"},
            "compute.precision",
            "is fp16, which a CPU cannot train in; accepted is fp32 or bf16",
        ),
        (
            {"model__attention": "ATTENTION_FLASH_ATTENTION_2"},
            "model.attention",
            "is flash_attention_2, which needs a GPU; accepted is sdpa or eager",
        ),
        (
            {"optimizer__name": "paged_adamw_8bit"},
            "optimizer.name",
            f"is paged_adamw_8bit, which needs a GPU; accepted on a CPU is {listed(ON_CPU, 'or')}",
        ),
        ({"resources__gpus": 1}, "resources.gpus", "is 1, but this host has no GPU; leave it out"),
        (
            {"resources": {"device": "DEVICE_KIND_CPU", "gpus": 2}},
            "resources.gpus",
            "is 2, but the job runs on the CPU; leave it out",
        ),
        (
            {"resources__gpuUuids": ["GPU-a"]},
            "resources.gpu_uuids",
            "is given, but this host has no GPU; leave it out",
        ),
    ],
)
def test_what_a_cpu_cannot_do(changes: dict[str, Any], field: str, description: str) -> None:
    made = spec(**{f"training__{path}": value for path, value in changes.items()})
    assert problems(made, CPU) == {f"training.{field}": description}


def test_all_problems_are_told_at_once() -> None:
    made = spec(
        name="NO",
        training__model__path="relative",
        training__batch={"microBatch": 3, "globalBatch": 8},
        training__schedule={"epochs": -1, "maxSteps": 5},
    )
    assert list(problems(made)) == [
        "name",
        "training.model.path",
        "training.schedule.epochs",
        "training.batch.global_batch",
        "training.schedule.max_steps",
    ]


def test_long_values_are_cut_in_messages() -> None:
    [text] = problems(replace(spec(), external_id="x" * 500)).values()
    assert text == f"is '{'x' * 78}…; accepted is at most 128 characters"


def test_annotations_have_a_size() -> None:
    assert problems(replace(spec(), annotations={"a": "x" * 16383})) == {}
    assert "annotations" in problems(replace(spec(), annotations={"a": "x" * 16384}))


def test_every_rule_belongs_to_a_field_of_the_contract() -> None:
    """A field that is renamed must not lose its rule in silence."""
    for path in limits.RULES:
        descriptor = job_pb2.JobSpec.DESCRIPTOR
        for part in path.replace("[]", "").split("."):
            assert part in descriptor.fields_by_name, path
            descriptor = descriptor.fields_by_name[part].message_type


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_no_number_rule_takes_what_is_not_finite(value: float) -> None:
    doubles = [
        path
        for path in limits.RULES
        if path.split(".")[-1]
        in {"weight", "alpha", "dropout", "beta", "learning_rate", "weight_decay", "epsilon", "max_grad_norm", "epochs"}
    ]
    assert len(doubles) > 9
    assert [path for path in doubles if limits.RULES[path].test(value)] == []


def test_every_format_has_its_columns_and_a_stage() -> None:
    assert set(FORMAT_COLUMNS) == {f for formats in STAGE_FORMATS.values() for f in formats}
