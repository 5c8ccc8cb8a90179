"""What is loaded beside the model that is trained: references, teachers and reward models, counted without torch.

Reads the headers of weights files only, each of a bounded size. A folder that is not there yet counts as nothing; the
estimate is made again when the data of the job is prepared, and then it is there.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

from ftd.origins import stands_on_own_model, weights_in
from ftd.spec import TrainingSpec

_LONGEST_HEADER = 64 * 1024**2
_LENGTH = struct.Struct("<Q")


def parameters_beside(training: TrainingSpec) -> int:
    """Parameters of all frozen models that the training names. An adapter is merged into its base and adds none."""
    others = (weights for field, weights in weights_in(training) if not stands_on_own_model(field))
    folders = [weights.base_path or weights.path for weights in others]
    return sum(parameters_in(Path(folder)) for folder in folders if folder)


def parameters_in(folder: Path) -> int:
    """Parameters in the safetensors files of a folder."""
    return sum(math.prod(shape) for path in sorted(folder.glob("*.safetensors")) for shape in _shapes(path))


def _shapes(path: Path) -> Iterator[list[int]]:
    try:
        with path.open("rb") as file:
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            header = json.loads(file.read(length)) if length <= _LONGEST_HEADER else {}
        yield from (tensor["shape"] for name, tensor in header.items() if name != "__metadata__")
    # Whatever it is, it is no weights; loading it will say so.
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, RecursionError):
        return
