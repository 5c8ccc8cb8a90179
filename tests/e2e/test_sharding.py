"""A model that several ranks divide: what reaches accelerate, and accelerate's own wrapping on two CPU ranks.

No trainer divides anything on a CPU, so a whole training cannot show it here; accelerate would train undivided.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support

from finetuned.v1 import event_pb2

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

HALVES = Path(__file__).parents[1] / "support" / "halves.py"


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Arguments with FSDP leave a mark in the environment, which accelerate reads."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def divided(model: Path, sharding: str, changes: str = "") -> Any:
    return support.resolved_spec(model, changes=f"resources {{ sharding: SHARDING_{sharding} }} {changes}")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.parametrize(("sharding", "reshards"), [("SHARD_GRAD_OP", False), ("FULL_SHARD", True)])
def test_the_spec_reaches_accelerate_s_plugin(
    smol_nano: Path, tmp_path: Path, sharding: str, *, reshards: bool
) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from trl import SFTConfig

    from fttrain import arguments

    spec = divided(smol_nano, sharding, "compute { gradient_checkpointing: true }")
    given = SFTConfig(**arguments.stable(spec, tmp_path))
    plugin = FullyShardedDataParallelPlugin(**given.fsdp_plugin_args)
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, reshards)
    assert plugin.activation_checkpointing
    assert not given.activation_checkpointing
    assert not plugin.cpu_ram_efficient_loading
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


def test_without_a_word_nothing_is_divided(smol_nano: Path, tmp_path: Path) -> None:
    from trl import SFTConfig

    from fttrain import arguments

    assert not SFTConfig(**arguments.stable(divided(smol_nano, "NO_SHARD"), tmp_path)).fsdp


@pytest.mark.slow
def test_ranks_that_would_train_undivided_are_refused(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, divided(smol_nano, "FULL_SHARD"), rows["sft"], ranks=2)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [support.start_rank(message, RANK=rank, LOCAL_RANK=rank, **meeting) for rank in ("0", "1")]
    for rank in ranks:
        rank.communicate(timeout=240)
    failure = support.result(message).failure
    assert failure.failure_class == event_pb2.FAILURE_CLASS_INTERNAL
    assert "full_shard, but the ranks would train as MULTI_CPU, undivided" in failure.message


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_halves_learn_what_the_whole_does(smol_nano: Path, tmp_path: Path, method: str) -> None:
    """See tests/support/halves.py: each rank checks itself, and rank 0 saves what was put together again."""
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-P", str(HALVES), str(smol_nano), method, str(tmp_path / "output")],
            stderr=subprocess.PIPE,
            env=os.environ | meeting | {"RANK": rank},
        )
        for rank in ("0", "1")
    ]
    logs = [rank.communicate(timeout=240)[1].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], logs
    kind = "adapter_model" if method == "lora" else "model"
    assert (tmp_path / "output" / f"{kind}.safetensors").exists()
