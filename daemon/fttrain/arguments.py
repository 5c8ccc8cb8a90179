"""Every field of the resolved spec as an argument of TRL and transformers.

What the spec leaves to us is stated here as well, so that nothing is inherited silently from a library whose defaults
move. It must never decide anything: the daemon has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetuned.v1 import training_pb2
from fttrain import sharding, updates
from fttrain.machine import on_cpu, world_size

_CADENCES = {
    training_pb2.CADENCE_NEVER: "no",
    training_pb2.CADENCE_STEPS: "steps",
    training_pb2.CADENCE_EPOCH: "epoch",
}
# What those of TRL's trainers share that it does not call experimental.
_STABLE = {"pad_to_multiple_of": None, "activation_offloading": False}
# Seconds a rank waits for the others before the collective is given up.
_COLLECTIVE_TIMEOUT = 1800


def common(spec: training_pb2.TrainingSpec, folder: Path) -> dict[str, Any]:
    """Arguments that every stage shares. `folder` gets the checkpoints."""
    return {
        **updates.optimizer(spec.optimizer),
        **updates.schedule(spec),
        **_batches(spec),
        **_compute(spec),
        **sharding.arguments(spec),
        **_cadences(spec),
        **_order(spec),
        **_reporting(),
        "output_dir": str(folder),
        "max_length": spec.data.max_length,
        "remove_unused_columns": True,
    }


def stable(spec: training_pb2.TrainingSpec, folder: Path) -> dict[str, Any]:
    """The same, and what those of TRL's trainers share that it does not call experimental."""
    return {**common(spec, folder), **_STABLE}


def evaluation(spec: training_pb2.TrainingSpec, folder: Path) -> dict[str, Any]:
    """Arguments of a trainer of ours that only evaluates."""
    return {
        **_compute(spec),
        **_order(spec),
        **_reporting(),
        **_STABLE,
        "per_device_eval_batch_size": spec.evaluation.micro_batch,
        "dataloader_pin_memory": not on_cpu(spec),
        "eval_strategy": "no",
        "save_strategy": "no",
        "prediction_loss_only": True,
        "output_dir": str(folder),
        "max_length": spec.data.max_length,
        "remove_unused_columns": True,
    }


def _batches(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    micro_batch = spec.batch.micro_batch
    evaluation = spec.evaluation
    return {
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": spec.batch.global_batch // (micro_batch * world_size()),
        "per_device_eval_batch_size": evaluation.micro_batch if evaluation.HasField("micro_batch") else micro_batch,
        "auto_find_batch_size": False,
        "dataloader_drop_last": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu(spec),
    }


def _compute(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    checkpointing = spec.compute.gradient_checkpointing
    return {
        "use_cpu": on_cpu(spec),
        "bf16": spec.compute.precision == training_pb2.DTYPE_BF16,
        "fp16": spec.compute.precision == training_pb2.DTYPE_FP16,
        # transformers 5 calls gradient checkpointing so.
        "activation_checkpointing": checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
        "torch_compile": False,
        "neftune_noise_alpha": spec.compute.neftune_noise_alpha or None,
        "ddp_backend": "gloo" if on_cpu(spec) and world_size() > 1 else None,
        "ddp_timeout": _COLLECTIVE_TIMEOUT,
        "ddp_find_unused_parameters": False,
    }


def _cadences(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    evaluation, saving = spec.evaluation, spec.checkpoints
    return {
        "eval_strategy": _CADENCES[evaluation.cadence],
        "eval_steps": evaluation.every_steps or None,
        "prediction_loss_only": True,
        "save_strategy": _CADENCES[saving.cadence],
        "save_steps": saving.every_steps or 1,
        # Ours does it, after the manifest: the last whole checkpoint must not go before the next one is whole.
        "save_total_limit": None,
        "save_only_model": False,
        # Its SIGTERM handler would return from train() as if all were done.
        "enable_jit_checkpoint": False,
    }


def _order(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    return {
        "seed": spec.seed,
        "data_seed": spec.seed,
        # With batch.group_by_length our trainers have a sampler of their own.
        "train_sampling_strategy": "random",
        "ignore_data_skip": False,
        "full_determinism": False,
    }


def _reporting() -> dict[str, Any]:
    return {
        "logging_strategy": "steps",
        "logging_steps": 1,
        # A loss that is not a number must be seen.
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
    }
