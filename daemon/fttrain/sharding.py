"""How several GPUs divide a model: the spec's word as settings of FSDP2, and a look at what was really done.

accelerate trains undivided where it cannot divide, on CPU ranks say, and does not tell. So the ranks are asked what
they are, and a training that would need more memory than it was given ends before its first step.
"""

from __future__ import annotations

from typing import Any

from accelerate.utils import DistributedType

from finetuned.v1 import event_pb2, training_pb2
from fttrain.failure import Refused

_DIVIDED = (training_pb2.SHARDING_SHARD_GRAD_OP, training_pb2.SHARDING_FULL_SHARD)


def is_divided(spec: training_pb2.TrainingSpec) -> bool:
    """Whether no GPU has the whole of the training."""
    return spec.resources.sharding in _DIVIDED


def arguments(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    """Arguments of the trainer; each layer is divided by itself, and put together when it is needed."""
    if not is_divided(spec):
        return {"fsdp": None}
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "reshard_after_forward": spec.resources.sharding == training_pb2.SHARDING_FULL_SHARD,
            "cpu_offload": False,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            # Every rank has loaded the same weights.
            "cpu_ram_efficient_loading": False,
            # A checkpoint is written by rank 0, so its manifest can be.
            "state_dict_type": "FULL_STATE_DICT",
            # The trainer's own would put a layer together twice in the backward pass.
            "activation_checkpointing": spec.compute.gradient_checkpointing,
        },
        "activation_checkpointing": False,
        "activation_checkpointing_kwargs": None,
    }


def check(spec: training_pb2.TrainingSpec, trainer: Any) -> None:
    """Raises Refused unless the ranks divide what they should."""
    accelerator = trainer.accelerator
    divides = accelerator.distributed_type == DistributedType.FSDP and accelerator.is_fsdp2
    if is_divided(spec) and not divides:
        word = training_pb2.Sharding.Name(spec.resources.sharding).removeprefix("SHARDING_").lower()
        found = accelerator.distributed_type.value
        raise Refused(
            event_pb2.FAILURE_CLASS_INTERNAL,
            f"resources.sharding is {word}, but the ranks would train as {found}, undivided",
            "set resources.sharding to no_shard, or run it on GPUs",
        )


def whole_weights(spec: training_pb2.TrainingSpec, trainer: Any) -> dict[str, Any] | None:
    """The weights on the CPU of rank 0, by name; None where the model has them itself. Every rank must call it."""
    return dict(trainer.accelerator.get_state_dict(trainer.model)) if is_divided(spec) else None
