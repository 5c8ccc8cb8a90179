"""Trainings on rows that named templates and masks make, from the file of rows to the tokenizer of the output."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import text_format
from tests.support import training as support
from tests.support.preparation import jsonl, order, prepared
from tests.support.training import QUESTIONS, losses, train, turn

from finetuned.v1 import event_pb2, training_pb2
from fttrain.data.templates import TEMPLATES

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ROWS = [
    {"messages": [*turn("user", question), {"role": "assistant", "content": answer, "reasoning_content": "I know."}]}
    for question, answer in QUESTIONS
]
CHANGES = {
    "alpaca": "data { template: 'alpaca' default_system: 'Answer.' }",
    "vicuna": "data { template: 'vicuna' thinking: THINKING_DROP } sft { train_on: TRAIN_ON_LAST_ASSISTANT }",
    "chatml": "data { template: 'chatml' thinking: THINKING_KEEP } sft { roles: [ROLE_USER, ROLE_ASSISTANT] }",
    "qwen3": "data { template: 'qwen3' enable_thinking: true } sft { train_on_thinking: false }",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_named_template_trains_and_stays_with_the_output(name: str, smol_nano: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    spec = support.resolved_spec(smol_nano, changes="optimizer { learning_rate: 2e-3 } schedule { max_steps: 6 }")
    spec.sft.Clear()
    text_format.Merge(CHANGES[name], spec)
    message = order(smol_nano, tmp_path, jsonl(tmp_path / "rows.jsonl", ROWS))
    del spec.data.train[:]
    spec.data.train.extend(message.spec.data.train)
    spec.data.long_rows = training_pb2.LONG_ROWS_TRUNCATE
    message.spec.CopyFrom(spec)
    result = train(support.bootstrap(tmp_path, spec, Path(prepared(message).prepared_directory)))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    assert losses(tmp_path)[-1] < 0.9 * losses(tmp_path)[0]
    kept = AutoTokenizer.from_pretrained(tmp_path / "output")
    assert kept.chat_template == TEMPLATES[name].text
    assert kept.eos_token == (TEMPLATES[name].stop or AutoTokenizer.from_pretrained(smol_nano).eos_token)
