"""What a trainer needs to run by itself: prepared rows, a resolved spec, a Bootstrap, and a look at what it left.

The rows are made here as the preparation makes them, from chat turns with the model's own template.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_report_pb2, metric_service_pb2, training_pb2
from fttrain.journal import JournalWriter
from fttrain.report import Report

QUESTIONS = [
    ("What is a queue?", "A line of jobs that wait."),
    ("What is a step?", "One change of the weights."),
    ("What is a loss?", "A number that should fall."),
    ("What is a seed?", "The start of all chance."),
    ("What is an adapter?", "A small part beside a model."),
    ("What is a checkpoint?", "A place to go on from."),
    ("What is a rank?", "One process of a job."),
    ("What is a journal?", "A file that only grows."),
]

REJECTED = "Nobody knows."

# Every field that applies to LoRA SFT on a CPU, as the daemon resolves it; tests say what they change.
RESOLVED = """
data { max_length: 128 long_rows: LONG_ROWS_TRUNCATE packing: false }
optimizer { name: "adamw_torch" learning_rate: 5e-3 weight_decay: 0 beta1: 0.9 beta2: 0.999 epsilon: 1e-8 }
optimizer { max_grad_norm: 1 }
schedule { max_steps: 8 name: "cosine" warmup_ratio: 0.1 }
batch { micro_batch: 2 global_batch: 4 group_by_length: false }
compute { precision: DTYPE_FP32 gradient_checkpointing: false padding_free: true }
evaluation { cadence: CADENCE_NEVER }
checkpoints { cadence: CADENCE_NEVER keep: 2 }
resources { device: DEVICE_KIND_CPU }
seed: 42
"""
LORA = 'rank: 8 alpha: 16 dropout: 0 target_modules: "all-linear" rslora: false dora: false'
WHOLE = f"output {{ dtype: DTYPE_FP32 max_shard_bytes: {5 << 30} }}"
STAGES = {
    "sft": "sft { train_on: TRAIN_ON_ASSISTANT }",
    "pretrain": "pretrain {}",
    "dpo": "dpo { beta: 0.1 loss: DPO_LOSS_SIGMOID ld_alpha: 1 }",
    "reward": "reward { center_coefficient: 0 }",
    "kto": "kto { beta: 0.1 desirable_weight: 1 undesirable_weight: 1 }",
    "orpo": "orpo { beta: 0.1 }",
    "cpo": "cpo { beta: 0.1 loss: CPO_LOSS_SIGMOID label_smoothing: 0 nll_weight: 1 }",
}
SAMPLING = "sampling { max_completion_length: 8 temperature: 1 top_p: 1 top_k: 0 repetition_penalty: 1 }"
ENDED = 'rewards { name: "ended" weight: 1 regex_match { pattern: "[.]" whole: false } }'
STAGES |= {
    "grpo": f"grpo {{ {ENDED} {SAMPLING} generations: 4 beta: 0 epsilon: 0.2 epsilon_high: 0.2 iterations: 1 "
    "loss: GRPO_LOSS_DAPO scale_rewards: REWARD_SCALE_GROUP mask_truncated: false }",
    "rloo": f"rloo {{ {ENDED} {SAMPLING} generations: 4 beta: 0.05 epsilon: 0.2 epsilon_high: 0.2 iterations: 1 "
    "mask_truncated: false normalize_advantages: false }",
}
STAGES["ppo"] = (
    f"ppo {{ {ENDED} {SAMPLING} beta: 0.02 epsilon: 0.2 value_epsilon: 0.2 value_weight: 0.1 gamma: 1 "
    "gae_lambda: 0.95 iterations: 2 }"
)
STAGES["distill"] = f"distill {{ {SAMPLING} beta: 1 }}"
METHODS = {
    "lora": f"lora {{ {LORA} }}",
    "qlora": f"qlora {{ lora {{ {LORA} }} quant_type: QUANT_TYPE_NF4 double_quant: true compute_dtype: DTYPE_FP32 }}",
    "full": f"full {{}} {WHOLE}",
    "freeze": f"freeze {{ trainable_layers: 2 }} {WHOLE}",
}


def resolved_spec(
    model: Path, stage: str = "sft", method: str = "lora", changes: str = ""
) -> training_pb2.TrainingSpec:
    """A resolved spec; `changes` is text format and overrides single fields."""
    spec = text_format.Merge(f"{RESOLVED}{STAGES[stage]}{METHODS[method]}", training_pb2.TrainingSpec())
    spec.model.path = str(model)
    spec.model.dtype = training_pb2.DTYPE_FP32
    spec.model.attention = training_pb2.ATTENTION_SDPA
    spec.data.train.add(path="/data/questions.jsonl")
    return text_format.Merge(changes, spec)


def bootstrap(run: Path, spec: training_pb2.TrainingSpec, prepared: Path, **fields: Any) -> trainer_pb2.Bootstrap:
    """The message an attempt is started with; its folder is made, as the keeper makes it."""
    message = trainer_pb2.Bootstrap(
        protocol=1,
        job_id="jabcdefghk",
        job_name="questions",
        attempt=fields.pop("attempt", 1),
        run_directory=str(run),
        spec=spec,
        device_ids=["cpu"] * fields.pop("ranks", 1),
        prepared_directory=str(prepared),
        threads=1,
        daemon_version="0.1.0",
        output_path=str(run / "output"),
        **fields,
    )
    (run / "attempts" / str(message.attempt)).mkdir(parents=True)
    return message


def turn(role: str, content: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": role, "content": content}]


def sft_rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    """Conversations with the loss on what the assistant's turn adds."""
    rows = []
    for question, answer in QUESTIONS:
        turns = turn("user", question)
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(turns + turn("assistant", answer), return_dict=False)
        rows.append({"input_ids": whole, "labels": [-100] * len(prompt) + whole[len(prompt) :]})
    return rows


def text_rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    """Plain text with the loss on every token."""
    texts = [tokenizer(f"{q} {a}")["input_ids"] + [tokenizer.eos_token_id] for q, a in QUESTIONS]
    return [{"input_ids": ids, "labels": ids} for ids in texts]


def preference_rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    """The right answer against one that is none."""
    rows = []
    for question, chosen in QUESTIONS:
        turns = turn("user", question)
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        answers = {}
        for name, answer in (("chosen_ids", chosen), ("rejected_ids", REJECTED)):
            whole = tokenizer.apply_chat_template(turns + turn("assistant", answer), return_dict=False)
            answers[name] = whole[len(prompt) :]
        rows.append({"prompt_ids": prompt, **answers})
    return rows


def whole_rows(tokenizer: Any) -> list[dict[str, list[int]]]:
    """The same pairs as two conversations each."""
    return [
        {name: row["prompt_ids"] + row[name] for name in ("chosen_ids", "rejected_ids")}
        for row in preference_rows(tokenizer)
    ]


def labelled_rows(tokenizer: Any) -> list[dict[str, Any]]:
    """The same answers one by one, each with a label."""
    return [
        {"prompt_ids": row["prompt_ids"], "completion_ids": row[name], "label": name == "chosen_ids"}
        for row in preference_rows(tokenizer)
        for name in ("chosen_ids", "rejected_ids")
    ]


def prompt_rows(tokenizer: Any) -> list[dict[str, Any]]:
    """The questions, with the answers beside them."""
    return [
        {
            "prompt": tokenizer.apply_chat_template(
                turn("user", question), add_generation_prompt=True, return_dict=False
            ),
            "answer": answer,
        }
        for question, answer in QUESTIONS
    ]


def prepare(
    folder: Path, rows: Sequence[dict[str, Any]], evaluation: Sequence[Any] = (), **sets: Sequence[dict[str, Any]]
) -> Path:
    """Saves rows as the preparation does and returns the folder. `sets` are evaluation rows by their set's name."""
    from datasets import Dataset

    Dataset.from_list(list(rows)).save_to_disk(str(folder / "train"))
    report = data_report_pb2.DataReport(digest="d" * 64)
    sets = {"eval_split": evaluation, **sets} if evaluation else sets
    if sets:
        Dataset.from_list([row for each in sets.values() for row in each]).save_to_disk(str(folder / "eval"))
        for name, each in sets.items():
            report.evaluation_sets.add(name=name, rows=len(each))
    report.sources.add(path="/data/questions.jsonl", rows_read=len(rows), rows_used=len(rows), sha256="5" * 64)
    (folder / "report.json").write_text(json_format.MessageToJson(report))
    return folder


def start_rank(message: trainer_pb2.Bootstrap, **environment: str) -> subprocess.Popen[bytes]:
    """A rank as the keeper starts it: its own process and environment, the Bootstrap on its standard input."""
    rank = subprocess.Popen(
        [sys.executable, "-m", "fttrain.train"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "RANK": "0", "WORLD_SIZE": "1"} | environment,
    )
    assert rank.stdin is not None
    rank.stdin.write(message.SerializeToString())
    rank.stdin.close()
    # Else communicate() would flush it.
    rank.stdin = None
    return rank


def result(message: trainer_pb2.Bootstrap, rank: int = 0) -> trainer_pb2.RankResult:
    """The rank's last word."""
    path = Path(message.run_directory) / "attempts" / str(message.attempt) / f"rank-{rank}.json"
    return json_format.Parse(path.read_text(), trainer_pb2.RankResult())


def events(run: Path) -> Sequence[Any]:
    """The journal: its bytes are one StreamMetricsResponse."""
    return metric_service_pb2.StreamMetricsResponse.FromString((run / "events.journal").read_bytes()).events


def of_kind(events: Iterable[Any], kind: str) -> Iterator[Any]:
    """The events of one kind, e.g. `step`."""
    return (getattr(event, kind) for event in events if event.WhichOneof("kind") == kind)


def train(message: trainer_pb2.Bootstrap) -> trainer_pb2.RankResult:
    """The body of a rank, in this process, which imports the training stack only once."""
    import torch

    from fttrain import inference
    from fttrain.recipe import train

    # As the Bootstrap says to a rank. Two threads on two busy cores would spin for each other.
    torch.set_num_threads(1)
    with JournalWriter(Path(message.run_directory) / "events.journal") as journal:
        return (inference.of(message.spec) or train)(message, Report(journal, message.attempt))


def steps(run: Path) -> list[Any]:
    """The metrics of every update, over all attempts."""
    return list(of_kind(events(run), "step"))


def losses(run: Path) -> list[float]:
    """The loss of every update."""
    return [step.loss for step in steps(run)]
