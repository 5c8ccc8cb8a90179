"""What a user reads for mistakes about what is to be left of a training."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ftd.test_validate import problems, spec

ADAPTER = "the output is an adapter; accepted with output.merge, or the method full or freeze"
Q8 = ["GGUF_TYPE_Q8_0"]


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        (
            {"training__full": {}, "training__output": {"merge": True}},
            "merge",
            "is on, but there is no adapter to merge; accepted with a method that trains one",
        ),
        ({"training__output": {"dtype": "DTYPE_BF16"}}, "dtype", f"is given, but {ADAPTER}"),
        ({"training__output": {"maxShardBytes": 2**30}}, "max_shard_bytes", f"is given, but {ADAPTER}"),
        (
            {"training__output": {"merge": True, "maxShardBytes": 5}},
            "max_shard_bytes",
            "is 5; accepted is at least 1048576, a MiB",
        ),
        ({"training__output": {"gguf": Q8}}, "gguf", f"is given, but {ADAPTER}"),
        (
            {"training__reward": {}, "training__output": {"merge": True, "gguf": Q8}},
            "gguf",
            "is given, but a reward model writes no text; leave it out",
        ),
        (
            {"training__output": {"merge": True, "gguf": [*Q8, *Q8]}},
            "gguf",
            "names a format twice; accepted is each once of f32, f16, bf16 and q8_0",
        ),
        (
            {"training__output": {"merge": True, "ollama": True}},
            "ollama",
            "is on, but there is no GGUF file to load; accepted with output.gguf",
        ),
    ],
)
def test_a_mistake_is_named_with_what_would_be_accepted(changes: dict[str, Any], field: str, expected: str) -> None:
    assert problems(spec(**changes)) == {f"training.output.{field}": expected}


def test_a_push_needs_a_repository_and_a_token() -> None:
    assert problems(spec(training__output={"push": {}})) == {
        "training.output.push.repository": "is missing; accepted is a repository's name, owner/name",
        "training.output.push.token_secret": (
            "is missing; accepted is the name of the host's secret with the hub's token"
        ),
    }
    wrong = problems(spec(training__output={"push": {"repository": "support", "tokenSecret": "../hub"}}))
    assert wrong["training.output.push.repository"] == "is 'support'; accepted is a repository's name, owner/name"
    assert wrong["training.output.push.token_secret"].startswith("is '../hub'; accepted is 1 to 63 of a-z")


@pytest.mark.parametrize("method", [{"training__output__merge": True}, {"training__full": {}}])
def test_a_whole_model_may_be_left_in_any_form(method: dict[str, Any]) -> None:
    output = {"dtype": "DTYPE_BF16", "maxShardBytes": 2**30, "gguf": ["GGUF_TYPE_F16", *Q8], "ollama": True}
    made = {f"training__output__{name}": value for name, value in output.items()}
    assert problems(spec(**made, **method)) == {}
