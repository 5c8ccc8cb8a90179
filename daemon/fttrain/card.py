"""The model card of an output: what it is, where it comes from, how it was made, with which result.

Everything in it comes from the run itself. It must never carry a path of this host: the card travels with the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2
from fttrain.manifest import spec_digest
from fttrain.origins import merged, portable, portable_name, short_name
from fttrain.rows import Rows

# Fields that hold paths of this host, besides those that are called so.
_PATHS = ("path", "files", "dataset_info")
_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "datasets")


def text(bootstrap: trainer_pb2.Bootstrap, state: Any = None, rows: Rows | None = None) -> str:
    """The card as Markdown with the front matter that model hubs read.

    `state` is the trainer's state at the end, `rows` are what was trained on; None: nothing was trained.
    """
    spec = bootstrap.spec
    adapter = state and spec.WhichOneof("method") in ("lora", "qlora") and not spec.output.merge
    scores = spec.WhichOneof("stage") == "reward"
    base = portable_name(spec.model)
    front = {
        "base_model": base,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-classification" if scores else "text-generation",
        "tags": list(filter(None, ("finetuned", spec.WhichOneof("stage"), spec.WhichOneof("method")))),
    }
    sections = {
        "How to load it": _usage(base, scores, len(merged(spec))) if adapter else _usage_of_model(scores),
        **({"Result": _table(_result(spec, state))} if state else {}),
        "Lineage": _table(_lineage(bootstrap, rows)),
        "Versions": _table([("finetuned", bootstrap.daemon_version), *((name, version(name)) for name in _LIBRARIES)]),
        "Resolved spec": f"```json\n{_portable(spec)}\n```",
    }
    kind = "An adapter for" if adapter else "A fine-tuned" if state else "A copy of"
    # JSON is YAML.
    head = "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---\n"
    body = "".join(f"\n## {title}\n\n{content}\n" for title, content in sections.items())
    return f"{head}\n# {bootstrap.job_name}\n\n{kind} {base}, made by finetuned as job `{bootstrap.job_id}`.\n{body}"


def _portable(spec: training_pb2.TrainingSpec) -> str:
    """The spec as JSON, every path cut to its last part."""
    portable = training_pb2.TrainingSpec()
    portable.CopyFrom(spec)
    portable.output.ClearField("path")
    _cut_paths(portable)
    return json_format.MessageToJson(portable, preserving_proto_field_name=True)


def _cut_paths(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                _cut_paths(each)
        elif field.name in _PATHS or field.name.endswith("_path"):
            cut = [short_name(Path(each)) for each in ([value] if not field.is_repeated else value)]
            message.ClearField(field.name)
            message.MergeFrom(type(message)(**{field.name: cut if field.is_repeated else cut[0]}))


def _result(spec: training_pb2.TrainingSpec, state: Any) -> Iterator[tuple[str, object]]:
    yield "updates", state.global_step
    yield "epochs", round(state.epoch or 0.0, 3)
    yield "tokens seen", state.num_input_tokens_seen
    for label, key in (("last training loss", "loss"), ("last evaluation loss", "eval_loss")):
        values = [entry[key] for entry in state.log_history if key in entry]
        if values:
            yield label, f"{values[-1]:.4f}"
    if state.best_global_step:
        yield f"best {spec.evaluation.metric}", f"{state.best_metric:.4f}, at update {state.best_global_step}"
    if spec.output.weights == training_pb2.OUTPUT_WEIGHTS_BEST:
        yield "weights", "of the best evaluation"


def _lineage(bootstrap: trainer_pb2.Bootstrap, rows: Rows | None) -> Iterator[tuple[str, object]]:
    found = portable(bootstrap.lineage)
    at = f" at {found.base_revision}" if found.base_revision else ""
    yield "base model", f"{found.base_model or portable_name(bootstrap.spec.model)}{at}"
    if found.base_digest:
        yield "base model's configuration and weights", f"sha256:{found.base_digest}"
    for ancestor in found.ancestors:
        made = f"job {ancestor.job}, step {ancestor.step}, " if ancestor.job else ""
        yield ancestor.field, f"{ancestor.path}: {made}sha256:{ancestor.digest}"
    for source in rows.report.sources if rows else ():
        yield f"data {Path(source.path).name}", f"sha256:{source.sha256}, {source.rows_used} rows used"
    if rows:
        yield "prepared rows", rows.report.digest
    yield "spec", f"sha256:{spec_digest(bootstrap.spec)}"


def _table(pairs: Any) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in pairs)])


def _usage(base: str, scores: bool, below: int) -> str:
    """`below`: how many adapters it stands on."""
    auto, labels = _loading(scores)
    merging = f"""
# It was trained on the base with these merged into it, in this order.
for number in range(1, {below + 1}):
    base = PeftModel.from_pretrained(base, f"this folder/base_adapters/{{number}}").merge_and_unload()"""
    return f"""```python
from peft import PeftModel
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
base = {auto}.from_pretrained("the folder or repository of {base}"{labels}){merging if below else ""}
model = PeftModel.from_pretrained(base, "this folder")
```"""


def _usage_of_model(scores: bool) -> str:
    auto, _ = _loading(scores)
    return f"""```python
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
model = {auto}.from_pretrained("this folder")
```"""


def _loading(scores: bool) -> tuple[str, str]:
    """The class that loads it, and what that must be told of a base model; of a reward model its head and padding."""
    if scores:
        return "AutoModelForSequenceClassification", ", num_labels=1, pad_token_id=tokenizer.pad_token_id"
    return "AutoModelForCausalLM", ""
