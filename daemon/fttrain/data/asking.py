"""What the stages that write their own answers make of rows: a prompt, and the answer that is right if there is one.

Pure. It must never look at a tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass

from finetuned.v1 import training_pb2
from fttrain.data.forms import Chat, Form, Plain, Prompt
from fttrain.data.problems import BadRow

STAGES = ("grpo", "rloo", "ppo", "distill")


@dataclass(frozen=True, slots=True)
class Asking:
    """How many tokens an answer may have, and whether a row without a reference answer is of use."""

    room: int
    needs_answer: bool

    @staticmethod
    def of(spec: training_pb2.TrainingSpec) -> Asking | None:
        """What the stage of a resolved spec asks for; None for the other stages."""
        name = spec.WhichOneof("stage")
        if name not in STAGES:
            return None
        stage = getattr(spec, name)
        rewards = stage.rewards if name != "distill" else ()
        return Asking(
            room=stage.sampling.max_completion_length,
            needs_answer=any(reward.HasField("exact_answer") for reward in rewards),
        )

    def prompt(self, form: Form) -> Prompt:
        """The row as a prompt: of a conversation all but its last answer. Raises BadRow."""
        match form:
            case Prompt():
                found = form
            case Plain(prompt=prompt, completion=answer):
                found = Prompt(prompt, answer)
            case Chat(messages=[*before, {"role": "assistant"} as last]) if before:
                found = Prompt(before, last.get("content") or "", form.tools)
            case _:
                raise BadRow("the row has no prompt with an answer")
        if self.needs_answer and not found.answer.strip():
            raise BadRow("the row has no answer, which the reward exact_answer compares with")
        return found
