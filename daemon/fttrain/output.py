"""What a finished training leaves: an ordinary Hugging Face folder with the adapter or the model, tokenizer and card.

The folder appears whole or not at all: it is written beside its place, sealed with a manifest and moved. It must never
name a path of this host.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import card, manifest, origins
from fttrain.failure import Refused
from fttrain.files import sync_folder
from fttrain.origins import portable_name
from fttrain.rows import Rows


def write(bootstrap: trainer_pb2.Bootstrap, trainer: Any, rows: Rows) -> None:
    """Writes the output; for rank 0 only. Raises Refused when something else stands in its place, OSError."""
    target = Path(bootstrap.output_path)
    made = target.with_name(f".{target.name}.{bootstrap.job_id}")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    _save(bootstrap, trainer, made)
    origins.write(bootstrap.lineage, made)
    (made / "README.md").write_text(card.text(bootstrap, trainer.state, rows))
    manifest.write(made, bootstrap.job_id, trainer.state.global_step, manifest.spec_digest(bootstrap.spec))
    _make_room(target, bootstrap.job_id)
    made.rename(target)
    sync_folder(target.parent)


def _save(bootstrap: trainer_pb2.Bootstrap, trainer: Any, folder: Path) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "peft_config"):
        model.peft_config["default"].base_model_name_or_path = portable_name(bootstrap.spec.model)
        # The vocabulary was not resized, and looking that up would ask the hub about the portable name.
        model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
        origins.carry(bootstrap.spec, folder)
    else:
        model.save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)


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
