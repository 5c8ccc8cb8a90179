"""What is written to the disk, by hand."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.ftsched.test_pace import CONFIG, work

from ftsched.shapes import shape_of
from ftsched.storage import OTHER_FILES, checkpoint_bytes, disk_bytes, output_bytes

SHAPE = shape_of(CONFIG)
ADAPTERS = 2 * 8 * (64 + 64)


def test_an_adapter_is_saved_alone_with_its_two_moments() -> None:
    assert output_bytes(work("lora"), SHAPE) == 4 * ADAPTERS + OTHER_FILES
    assert checkpoint_bytes(work("lora"), SHAPE) == 3 * 4 * ADAPTERS + OTHER_FILES


def test_a_full_training_saves_the_model_and_its_states() -> None:
    full = replace(work("full"), weight_bytes=4)
    assert checkpoint_bytes(full, SHAPE) == 12 * SHAPE.parameters + OTHER_FILES


def test_the_new_checkpoint_stands_beside_those_that_are_kept() -> None:
    lora = work("lora")
    plain = 3 * checkpoint_bytes(lora, SHAPE) + output_bytes(lora, SHAPE)
    assert disk_bytes(lora, SHAPE, kept=2) == plain
    # Merged in 16 bits, and as a GGUF file in 8 with its scales.
    assert disk_bytes(lora, SHAPE, kept=2, exported=2 + 34 / 32) == plain + int((2 + 34 / 32) * SHAPE.parameters)
