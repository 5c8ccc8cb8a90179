"""What a user reads who asks of a method, an optimizer or a schedule what it does not do."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from finetuned.v1 import job_pb2
from ftd import validate, wire
from ftd.spec import DeviceKind

GPU = DeviceKind.GPU
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "lora.target_pattern": (
        {"lora": {"targetPattern": ".*", "targetModules": ["q_proj"]}},
        "stands beside lora.target_modules; accepted is one of the two",
    ),
    "lora.rank_pattern": (
        {"lora": {"rankPattern": {"q_proj": 0}}},
        "is {'q_proj': 0}; accepted is regular expressions with ranks of 1 to 1024",
    ),
    "lora.target_modules": (
        {"lora": {"targetModules": ["lm_head"]}},
        "is ['lm_head']; accepted is different module names but the head's, or 'all-linear' alone",
    ),
    "lora.pissa_iterations": (
        {"lora": {"pissaIterations": 4}},
        "is given, but init is not pissa; accepted with init: pissa",
    ),
    "lora.dora": (
        {"lora": {"init": "LORA_INIT_PISSA", "dora": True}},
        "is on, but the output of init pissa could not be converted; leave it out",
    ),
    "lora.init": (
        {"lora": {"init": "LORA_INIT_ORTHOGONAL", "rank": 3}},
        "is orthogonal, which needs even ranks; accepted is another rank or init",
    ),
    "lora.loraplus_embedding_lr": (
        {"lora": {"loraplusEmbeddingLr": 1e-4}},
        "is given without loraplus_lr_ratio; accepted with it",
    ),
    "qlora.lora.init": (
        {"qlora": {"lora": {"init": "LORA_INIT_PISSA"}}},
        "is pissa, which needs whole weights; accepted is default or gaussian",
    ),
    "qlora.double_quant": (
        {"qlora": {"quantType": "QUANT_TYPE_INT8", "doubleQuant": True}},
        "is given, but int8 has no such choice; accepted with nf4 or fp4",
    ),
    "adalora.rank": (
        {"adalora": {"rank": 16}},
        "is 16, and initial_rank 12; accepted is a smaller rank at the end",
    ),
    "adalora.final_steps": (
        {"adalora": {"initialSteps": 5, "finalSteps": 5}, "schedule": {"maxSteps": 10}},
        "leaves none of 10 updates to change ranks in, with initial_steps; accepted are fewer",
    ),
    "oft.epsilon": (
        {"oft": {"epsilon": 1e-4}},
        "is given, but oft.constrained is off; accepted with constrained: true",
    ),
    "prefix_tuning.encoder_hidden_size": (
        {"prefixTuning": {"encoderHiddenSize": 8}},
        "is given, but projection is off; accepted with projection: true",
    ),
    "p_tuning.encoder_dropout": (
        {"pTuning": {"encoderDropout": 0.1}},
        "is given, but the encoder is mlp; accepted with lstm",
    ),
    "prompt_tuning": (
        {"promptTuning": {}, "dpo": {}},
        "puts virtual tokens before the rows, which this stage does not know; accepted with sft or pretrain",
    ),
    "compute.padding_free": (
        {"promptTuning": {}, "compute": {"paddingFree": True}},
        "is on, but prompt_tuning puts virtual tokens before each row; leave it out",
    ),
    "optimizer.momentum": (
        {"optimizer": {"name": "adamw_torch", "momentum": 0.9}},
        "is given, but adamw_torch does not use it; leave it out",
    ),
    "optimizer.name": (
        {"optimizer": {"name": "galore_adamw"}},
        "is galore_adamw, which projects whole matrices; accepted with full or freeze",
    ),
    "schedule.restarts": (
        {"schedule": {"restarts": 2}},
        "is given, but cosine does not use it; accepted with cosine_with_restarts",
    ),
    "schedule.name": (
        {"schedule": {"name": "reduce_lr_on_plateau"}},
        "is reduce_lr_on_plateau, but nothing is evaluated; accepted with evaluation data",
    ),
}


@pytest.mark.parametrize("field", MISTAKES)
def test_a_mistake_is_named_with_what_would_be_accepted(field: str) -> None:
    changes, description = MISTAKES[field]
    training = {"model": {"path": "/m"}, "data": {"train": [{"path": "/d/a.jsonl"}]}} | changes
    made = wire.read_spec(ParseDict({"training": training}, job_pb2.JobSpec()))
    assert {v.field: v.description for v in validate.check(made, GPU)} == {f"training.{field}": description}
