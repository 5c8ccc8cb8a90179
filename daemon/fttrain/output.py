"""What a finished training leaves: an ordinary Hugging Face folder with the adapter or the model, tokenizer and card.

The folder appears whole or not at all: it is written beside its place, sealed with a manifest and moved. It must never
name a path of this host.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2, training_pb2
from fttrain import card, generation, manifest, methods, origins, trainer_log
from fttrain.export import gguf, hub, merge, modelfile
from fttrain.failure import Refused
from fttrain.files import sync_folder
from fttrain.methods import DTYPES
from fttrain.origins import portable_name
from fttrain.report import Report
from fttrain.rows import Rows

# Where the adapter is in an output that it is merged into.
ADAPTER = "adapter"


def write(bootstrap: trainer_pb2.Bootstrap, trainer: Any, rows: Rows, weights: dict[str, Any] | None = None) -> None:
    """Writes the output; for rank 0 only. `weights` by name, of a model that several ranks divide.

    Raises Refused when something else stands in its place, OSError.
    """
    with appearing(bootstrap, trainer.state.global_step) as folder:
        _save(bootstrap, trainer, folder, weights)
        _save_course(bootstrap, trainer.state, folder)
        origins.write(bootstrap.lineage, folder)
        (folder / "README.md").write_text(card.text(bootstrap, trainer.state, rows))


@contextmanager
def appearing(bootstrap: trainer_pb2.Bootstrap, step: int = 0) -> Iterator[Path]:
    """A folder to fill, which becomes the output when the block ends well. `step` is that of its weights.

    Raises Refused when something else stands in its place, OSError.
    """
    target = Path(bootstrap.output_path)
    made = target.with_name(f".{target.name}.{bootstrap.job_id}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    try:
        yield made
        manifest.write(made, bootstrap.job_id, step, manifest.spec_digest(bootstrap.spec))
    except BaseException:
        # Half an output helps nobody, least of all where the disk is full.
        shutil.rmtree(made, ignore_errors=True)
        raise
    _make_room(target, bootstrap.job_id)
    made.rename(target)
    sync_folder(target.parent)


def check(bootstrap: trainer_pb2.Bootstrap, config: Any, tokenizer: Any) -> None:
    """Raises Refused, before anything is done, if the output of a model cannot be written as it is asked for."""
    output = bootstrap.spec.output
    if output.gguf:
        gguf.check(config, tokenizer)
    if output.HasField("push"):
        hub.check(output.push, bootstrap.hub_token_path)


def push(bootstrap: trainer_pb2.Bootstrap, report: Report) -> None:
    """Uploads the output where it is asked for, and tells what came of it."""
    output = bootstrap.spec.output
    if output.HasField("push"):
        report.notice(hub.push(Path(bootstrap.output_path), output.push, bootstrap.hub_token_path))


def _save(bootstrap: trainer_pb2.Bootstrap, trainer: Any, folder: Path, weights: dict[str, Any] | None) -> None:
    spec, tokenizer = bootstrap.spec, trainer.processing_class
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapts = hasattr(model, "peft_config")
    if adapts:
        _save_adapter(spec, model, folder / ADAPTER if spec.output.merge else folder, weights)
    if spec.output.merge or not adapts:
        dtype = DTYPES.get(spec.output.dtype, model.dtype)
        if weights is not None:
            weights = {name: weight.to(dtype) for name, weight in weights.items()}
        else:
            model = merge.merged(model, dtype) if adapts else merge.converted(model, dtype)
        model.save_pretrained(folder, state_dict=weights, max_shard_size=spec.output.max_shard_bytes)
    tokenizer.save_pretrained(folder)
    export(spec.output, bootstrap.job_name, model.config, tokenizer, folder)


def _save_adapter(spec: training_pb2.TrainingSpec, model: Any, folder: Path, weights: dict[str, Any] | None) -> None:
    model.peft_config["default"].base_model_name_or_path = portable_name(spec.model)
    methods.of(spec).save(spec, model, folder, weights)
    origins.carry(spec, folder)


def export(output: training_pb2.Output, name: str, config: Any, tokenizer: Any, folder: Path) -> None:
    """What is made of the whole model that is in the folder."""
    files = {kind: gguf.file_name(name, kind) for kind in output.gguf}
    for kind, file in files.items():
        gguf.write(folder, folder / file, kind, config, tokenizer)
    if output.ollama:
        (folder / modelfile.NAME).write_text(modelfile.text(files[output.gguf[0]], tokenizer))


def _save_course(bootstrap: trainer_pb2.Bootstrap, state: Any, folder: Path) -> None:
    """How the training went, in the files that other tools read."""
    # A run that an older version began has no log, and not every run has answers.
    for name in (trainer_log.NAME, generation.NAME):
        if (found := Path(bootstrap.run_directory) / name).exists():
            shutil.copyfile(found, folder / name)
    if state.best_model_checkpoint:
        state.best_model_checkpoint = Path(state.best_model_checkpoint).name
    state.save_to_json(str(folder / TRAINER_STATE_NAME))


def _make_room(target: Path, job_id: str) -> None:
    """An output of this very job is one whose attempt ended before it could say so; anything else is not ours."""
    if not target.exists():
        return
    try:
        ours = manifest.verify(target).job_id == job_id
    except manifest.Incomplete:
        ours = False
    if not ours:
        raise Refused(
            event_pb2.FAILURE_CLASS_INTERNAL,
            f"{target} came into being while the job ran, and it is not the job's",
            "move it away, then retry the job: it goes on from its last checkpoint",
        )
    shutil.rmtree(target)
