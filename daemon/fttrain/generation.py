"""What the model answers to evaluation rows: written in batches, compared with the row's answer, told before and after.

A row's prompt is what stands before its last answer, token by token as prepared, so the model is asked what it is
trained to answer. It must never change the model, nor the random numbers of the training.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object

from finetuned.v1 import event_pb2, training_pb2
from fttrain import machine
from fttrain.callbacks import EvaluationStopped
from fttrain.files import write_atomically
from fttrain.rank import stops
from fttrain.report import Report
from fttrain.scores import scores

NAME = "generated_predictions.jsonl"
Ids = list[int]


@dataclass(frozen=True, slots=True)
class Question:
    """A row that is answered; `row` counts from 1 in its set."""

    set: str
    row: int
    prompt: Ids
    expected: Ids


def questions(sets: Mapping[str, Any], count: int) -> list[Question]:
    """The first `count` rows of each set that have an answer to compare with."""
    found = []
    for name, rows in sets.items():
        split = ((number, _split(rows[number - 1])) for number in range(1, len(rows) + 1))
        answered = (Question(name, number, *parts) for number, parts in split if parts is not None)
        found += [question for question, _ in zip(answered, range(count), strict=False)]
    return found


def _split(row: Mapping[str, Any]) -> tuple[Ids, Ids] | None:
    """Prompt and answer of a prepared row; None for a bad answer, or where nothing stands before the answer."""
    if "prompt_ids" in row:
        good = row.get("label", True)
        return (
            (row["prompt_ids"], row["chosen_ids"] if "chosen_ids" in row else row["completion_ids"]) if good else None
        )
    labels = row["labels"]
    end = next((i for i in range(len(labels), 0, -1) if labels[i - 1] != -100), 0)
    start = next((i for i in range(end, 0, -1) if labels[i - 1] == -100), 0)
    return (row["input_ids"][:start], row["input_ids"][start:end]) if start else None


class Answers:
    """The answers of one training: written, scored, told, and kept in a file of the run directory."""

    def __init__(
        self, spec: training_pb2.TrainingSpec, sets: Mapping[str, Any], tokenizer: Any, report: Report, run: Path
    ) -> None:
        self._spec = spec.evaluation.generation
        self._batch = spec.evaluation.micro_batch
        self._seed = spec.seed
        self._questions = questions(sets, self._spec.max_rows)
        self._tokenizer = tokenizer
        self._report = report
        self._trains = spec.WhichOneof("stage") != "evaluate"
        self._of_best = spec.output.weights == training_pb2.OUTPUT_WEIGHTS_BEST
        self._path = run / NAME
        self._decoded = {
            (each.set, each.row): (self._text(each.prompt, special=False), self._text(each.expected))
            for each in self._questions
        }

    def before(self, trainer: Any) -> None:
        """Tells what the untrained model answers, and keeps it for the comparison."""
        written = self._write(trainer)
        self._tell(0, written)
        self._keep(trainer, written, {})

    def after(self, trainer: Any) -> tuple[dict[str, float], list[str]]:
        """The figures of what the model answers now, over all and of several sets each one's; and the answers."""
        written = self._write(trainer)
        self._tell(trainer.state.global_step, written)
        figures = self._scores(written, None)
        sets = list(dict.fromkeys(each.set for each in self._questions))
        if len(sets) > 1:
            for name in sets:
                figures |= {f"{name}/{key}": value for key, value in self._scores(written, name).items()}
        return figures, written

    def keep(self, trainer: Any, written: Sequence[str]) -> None:
        """Puts the answers that go with the output's weights into the file, beside those of the untrained model."""
        if self._of_best and trainer.state.best_global_step != trainer.state.global_step:
            return
        known = [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []
        self._keep(trainer, written, {(line["set"], line["row"]): line["before"] for line in known})

    def _keep(self, trainer: Any, written: Sequence[str], before: Mapping[tuple[str, int], str]) -> None:
        if self._report.trial or not trainer.is_world_process_zero():
            return
        lines = []
        for each, answer in zip(self._questions, written, strict=True):
            key = each.set, each.row
            prompt, expected = self._decoded[key]
            row = {"set": each.set, "row": each.row, "prompt": prompt, "label": expected, "predict": answer}
            lines.append(row | {"before": before.get(key, answer)} if self._trains else row)
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomically(self._path, content.encode())

    def _scores(self, written: Sequence[str], name: str | None) -> dict[str, float]:
        chosen = [
            (answer, self._decoded[each.set, each.row][1])
            for each, answer in zip(self._questions, written, strict=True)
            if name in (None, each.set)
        ]
        return scores(*zip(*chosen, strict=True)) if chosen else {}

    def _tell(self, step: int, written: Sequence[str]) -> None:
        told = event_pb2.GeneratedAnswers(step=step)
        shown: dict[str, int] = {}
        for each, answer in zip(self._questions, written, strict=True):
            shown[each.set] = shown.get(each.set, 0) + 1
            if shown[each.set] <= self._spec.samples:
                prompt, expected = self._decoded[each.set, each.row]
                told.answers.add(set=each.set, row=each.row, prompt=prompt, expected=expected, generated=answer)
        if told.answers:
            self._report.answers(told)

    def _write(self, trainer: Any) -> list[str]:
        """Answers to all questions, in their order; each rank writes a part of them."""
        ranks, rank = trainer.args.world_size, trainer.args.process_index
        own = range(rank, len(self._questions), ranks)
        # The longest prompts together: least is padded.
        order = sorted(own, key=lambda index: -len(self._questions[index].prompt))
        rounds = math.ceil(len(self._questions) / (ranks * self._batch))
        found: list[tuple[int, str]] = []
        with _writing(trainer, self._seed + rank):
            for done in range(rounds):
                if machine.highest([stops.asked], trainer.args.device)[0]:
                    raise EvaluationStopped
                self._report.phase(event_pb2.PHASE_EVALUATING, done / rounds)
                batch = order[done * self._batch : (done + 1) * self._batch]
                prompts = [self._questions[index].prompt for index in batch]
                found += zip(batch, self._answer(prompts, trainer) if batch else (), strict=True)
        return [answer for _, answer in sorted(gather_object(found))]

    def _answer(self, prompts: Sequence[Ids], trainer: Any) -> Iterator[str]:
        device, longest = trainer.args.device, max(map(len, prompts))
        padding = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0
        ids = torch.tensor([[padding] * (longest - len(each)) + each for each in prompts], device=device)
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in prompts], device=device)
        model = trainer.accelerator.unwrap_model(trainer.model)
        written = model.generate(input_ids=ids, attention_mask=mask, pad_token_id=padding, **self._settings(model))
        return (self._text(each) for each in written[:, longest:].tolist())

    def _settings(self, model: Any) -> dict[str, Any]:
        drawn = self._spec.temperature > 0
        ending = {"stop_strings": list(self._spec.stop), "tokenizer": self._tokenizer} if self._spec.stop else {}
        return ending | {
            "max_new_tokens": self._spec.max_new_tokens,
            "do_sample": drawn,
            "temperature": self._spec.temperature if drawn else None,
            "top_p": self._spec.top_p if drawn else None,
            "top_k": 0 if drawn else None,
            "num_beams": 1,
            "repetition_penalty": 1.0,
            "eos_token_id": self._ends(model),
            "use_cache": True,
        }

    def _ends(self, model: Any) -> list[int]:
        """Tokens that end a turn: the end of text, and the special one that ends an expected answer."""
        known = model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(known if isinstance(known, list) else [known])}
        special = set(self._tokenizer.all_special_ids)
        for each in self._questions:
            ends.add(next((token for token in reversed(each.expected) if token in special), None))
        return sorted(token for token in ends if token is not None)

    def _text(self, ids: Ids, *, special: bool = True) -> str:
        """Tokens as text: an answer without special tokens and what follows a stop word, a prompt as it is."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=special)
        if not special:
            return text
        for stop in self._spec.stop:
            text = text.partition(stop)[0]
        return text.strip()


@contextmanager
def _writing(trainer: Any, seed: int) -> Iterator[None]:
    """The model writes, with random numbers of its own, and then is as it was."""
    was_training = trainer.model.training
    trainer.model.eval()
    devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.no_grad(), trainer.compute_loss_context_manager():
            torch.manual_seed(seed)
            yield
    finally:
        trainer.model.train(was_training)
