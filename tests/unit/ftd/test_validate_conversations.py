"""What a user reads for mistakes about templates, thinking and masks, and what is resolved without mistakes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.ftd.test_resolve import SPEC, resolved
from tests.unit.ftd.test_validate import problems, spec

from ftd.datasets import Thinking
from ftd.limits import TEMPLATES
from ftd.stages import Dpo, Pretrain, Role, Sft, TrainOn


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        (
            {"training__data__template": "nobody"},
            "data.template",
            f"is 'nobody'; accepted is one of {', '.join(TEMPLATES)}",
        ),
        (
            {"training__data__template": "chatml", "training__data__chatTemplatePath": "/t.jinja"},
            "data.template",
            "stands beside data.chat_template_path; accepted is one of the two",
        ),
        ({"training__data__defaultSystem": " "}, "data.default_system", "is ' '; accepted is a text that is not empty"),
        (
            {"training__data__enableThinking": False, "training__pretrain": {}},
            "data.enable_thinking",
            "is given, but pretrain renders no conversations; leave it out",
        ),
        (
            {"training__sft": {"trainOn": "TRAIN_ON_ALL", "roles": ["ROLE_USER"]}},
            "sft.roles",
            "stands beside sft.train_on; accepted is one of the two",
        ),
        (
            {"training__sft": {"roles": ["ROLE_USER", "ROLE_USER"]}},
            "sft.roles",
            "is ['user', 'user']; accepted is different roles",
        ),
        (
            {"training__sft": {"trainOn": "TRAIN_ON_ALL", "trainOnThinking": False}},
            "sft.train_on_thinking",
            "is false, but train_on is all; accepted with assistant or last_assistant",
        ),
    ],
)
def test_a_mistake_is_named_with_what_would_be_accepted(changes: dict[str, Any], field: str, expected: str) -> None:
    assert problems(spec(**changes)) == {f"training.{field}": expected}


def test_what_applies_is_spelled_out_and_nothing_else() -> None:
    for given, train_on, thinking in (
        (Sft(), TrainOn.ASSISTANT, True),
        (Sft(train_on=TrainOn.ALL), TrainOn.ALL, None),
        (Sft(roles=(Role.USER,)), None, True),
    ):
        made = resolved(stage=given).stage
        assert isinstance(made, Sft)
        assert (made.train_on, made.roles, made.train_on_thinking) == (train_on, given.roles, thinking)
    assert resolved(stage=Dpo()).data.thinking is Thinking.TEMPLATE
    assert resolved(stage=Pretrain()).data.thinking is None
    data = replace(SPEC.data, template="chatml", enable_thinking=False, thinking=Thinking.DROP)
    assert resolved(data=data).data.enable_thinking is False
    assert resolved(data=data).data.thinking is Thinking.DROP
