"""Where the weights of a training come from: which folders it begins with, in which order, and what is known of each.

An adapter that was trained on a model with others merged into it carries those in `base_adapters/`, numbered in their
order, so that its folder is all one needs beside the base model. It must never import torch: the preparation asks, too.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import training_pb2, weights_pb2
from fttrain.files import write_atomically, write_message

BASE_ADAPTERS = "base_adapters"
LINEAGE = "lineage.json"
_MANIFEST = "manifest.json"
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def lora(spec: training_pb2.TrainingSpec) -> training_pb2.Lora | None:
    """The LoRA part of the method, if it has one."""
    method = spec.WhichOneof("method")
    return spec.lora if method == "lora" else spec.qlora.lora if method == "qlora" else None


def continued(spec: training_pb2.TrainingSpec) -> Path | None:
    """The adapter that is trained on; None: a new one."""
    part = lora(spec)
    return Path(part.continue_from.path) if part is not None and part.HasField("continue_from") else None


def chain(adapter: Path) -> list[Path]:
    """The adapter's folder after those it stands on, in the order they go onto the base model."""
    below = (adapter / BASE_ADAPTERS).glob("*")
    return [*sorted(below, key=lambda folder: int(folder.name)), adapter]


def merged(spec: training_pb2.TrainingSpec) -> list[Path]:
    """The adapters that go into the model before anything is trained, each once, whoever brings it along."""
    last = continued(spec)
    brought = [folder for weights in spec.model.adapters for folder in chain(Path(weights.path))]
    brought += chain(last)[:-1] if last else []
    known = {_adapter_digest(last)} if last else set()
    folders = []
    for folder in brought:
        if (digest := _adapter_digest(folder)) not in known:
            known.add(digest)
            folders.append(folder)
    return folders


def carry(spec: training_pb2.TrainingSpec, output: Path) -> None:
    """Copies the adapters that an adapter stands on into its folder, which then needs nothing but the base model."""
    for index, adapter in enumerate(merged(spec), 1):
        target = output / BASE_ADAPTERS / str(index)
        target.mkdir(parents=True)
        for name in _ADAPTER:
            shutil.copyfile(adapter / name, target / name)


def tokenizer_folder(spec: training_pb2.TrainingSpec) -> Path | None:
    """The folder of the weights that were trained last and have a tokenizer, with its chat template; None: on a hub."""
    last = continued(spec)
    adapters = [*([last] if last else []), *(Path(weights.path) for weights in reversed(spec.model.adapters))]
    found = next((folder for folder in adapters if (folder / "tokenizer_config.json").exists()), None)
    return found or (Path(spec.model.path) if spec.model.path else None)


def portable_name(model: training_pb2.Model) -> str:
    """A name that means the same model on another host: the repository, or the folder's own name."""
    return model.hub_id or short_name(Path(model.path))


def lineage(spec: training_pb2.TrainingSpec, data_digest: str, notes: Path) -> weights_pb2.Lineage:
    """What the training begins with. Reads all weights whose digest is not in the folder `notes` yet."""
    model, found = spec.model, weights_pb2.Lineage(data_digest=data_digest)
    found.base_model = model.path or model.hub_id
    found.base_revision = model.revision or (_revision(Path(model.path)) if model.path else "")
    if model.path:
        found.base_digest = _digest(Path(model.path), notes)
    parent = _lineage_in(Path(model.path)) if model.path else None
    if parent is not None:
        # The model is the output of a job, and what all began with is what that one began with.
        found.base_model, found.base_revision = parent.base_model, parent.base_revision
        found.base_digest = parent.base_digest
        _add(found, "model", Path(model.path), notes)
    for field, path in taken(spec):
        _add(found, field, path, notes)
    return found


def taken(spec: training_pb2.TrainingSpec) -> Iterator[tuple[str, Path]]:
    """Every folder of weights that the spec names besides its model, by its field, and its checkpoint."""
    yield from _weights(spec, "")
    if spec.resume.path:
        yield "resume", Path(spec.resume.path)


def portable(found: weights_pb2.Lineage) -> weights_pb2.Lineage:
    """The lineage without paths of this host."""
    copy = weights_pb2.Lineage()
    copy.CopyFrom(found)
    copy.base_model = short_name(Path(copy.base_model)) if copy.base_model.startswith("/") else copy.base_model
    for ancestor in copy.ancestors:
        ancestor.path = short_name(Path(ancestor.path))
    return copy


def write(found: weights_pb2.Lineage, folder: Path) -> None:
    """Puts the lineage beside an output."""
    write_message(folder / LINEAGE, portable(found))


def _add(found: weights_pb2.Lineage, field: str, path: Path, notes: Path) -> None:
    """Weights that are taken, and after them what those were made of."""
    manifest = _manifest(path)
    found.ancestors.add(
        field=field,
        path=str(path),
        digest=_digest(path, notes),
        job=manifest.job_id if manifest else "",
        step=manifest.step if manifest else 0,
    )
    parent = _lineage_in(path)
    for ancestor in parent.ancestors if parent else ():
        found.ancestors.add().CopyFrom(ancestor)
        found.ancestors[-1].field = f"{field}/{ancestor.field}"


def _weights(message: Any, path: str) -> Iterator[tuple[str, Path]]:
    for field, value in message.ListFields():
        if not field.message_type or field.message_type.GetOptions().map_entry:
            continue
        where = f"{path}.{field.name}" if path else field.name
        items = [(f"{where}[{index}]", item) for index, item in enumerate(value)] if field.is_repeated else None
        for place, item in items or [(where, value)]:
            if isinstance(item, weights_pb2.Weights):
                yield place, Path(item.path)
            else:
                yield from _weights(item, place)


def _digest(folder: Path, notes: Path) -> str:
    """SHA-256 over the names and contents of configuration and weights, as the manifest or the notes have them."""
    manifest = _manifest(folder)
    if manifest is not None:
        return _joined({entry.path: entry.sha256 for entry in manifest.files})
    files = [*folder.glob("*config.json"), *folder.glob("*.safetensors"), *folder.glob("*.safetensors.index.json")]
    note = notes / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()}.json"
    known = _read_note(note)
    seen = {file.name: _seen(file) for file in files}
    hashes = {file.name: known[seen[file.name]] if seen[file.name] in known else _sha256(file) for file in files}
    notes.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps({seen[name]: sha256 for name, sha256 in hashes.items()}).encode())
    return _joined(hashes)


def _joined(hashes: dict[str, str]) -> str:
    lines = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _seen(file: Path) -> str:
    """What changes when the file does."""
    found = file.stat()
    return f"{file.name} {found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_note(note: Path) -> dict[str, str]:
    try:
        return dict(json.loads(note.read_text()))
    except (OSError, ValueError):
        return {}


def _adapter_digest(folder: Path) -> str:
    return _joined({name: _sha256(folder / name) for name in _ADAPTER if (folder / name).exists()})


def _manifest(folder: Path) -> trainer_pb2.Manifest | None:
    return _message(folder / _MANIFEST, trainer_pb2.Manifest())


def _lineage_in(folder: Path) -> weights_pb2.Lineage | None:
    return _message(folder / LINEAGE, weights_pb2.Lineage())


def _message(path: Path, message: Any) -> Any | None:
    try:
        return json_format.Parse(path.read_text(), message, ignore_unknown_fields=True)
    except (OSError, UnicodeDecodeError, json_format.ParseError):
        return None


def _revision(folder: Path) -> str:
    """The commit that a model folder is of, as the hub's own tools note it down; empty if they did not."""
    snapshot = next((part for part in reversed(folder.resolve().parts) if _COMMIT.fullmatch(part)), "")
    notes: Iterable[Path] = sorted((folder / ".cache" / "huggingface" / "download").glob("*.metadata"))
    lines = (note.read_text(errors="replace").partition("\n")[0].strip() for note in notes)
    return snapshot or next((line for line in lines if _COMMIT.fullmatch(line)), "")


def short_name(folder: Path) -> str:
    """The folder's own name; of an output in a run directory the job's, which is the only one that tells it apart."""
    return folder.parent.name if folder.name == "output" else folder.name
