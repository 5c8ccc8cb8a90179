"""The keys that the tools share, because all of them hand them to transformers' Trainer and to peft: one table.

Names are those of transformers, or LLaMA-Factory's where it has none; each tool adds its spellings and its defaults.
How data are named is each tool's own.
"""

from __future__ import annotations

from typing import Any

from ftctl.importing.evaluating import EVALUATING, answers
from ftctl.importing.place import is_hub_id
from ftctl.importing.preferences import enough
from ftctl.importing.report import Entry, Kind
from ftctl.importing.rules import (
    Draft,
    Rule,
    ignore,
    ignored,
    refuse,
    refused,
    to,
    to_adapter,
    write,
)
from ftctl.importing.updating import UPDATING
from ftctl.importing.values import count, flag, integer, is_off, number, text, word, words


def model(draft: Draft, key: str, value: Any) -> Entry:
    """A folder on this machine, or a repository on a hub."""
    name = text(value)
    if found := draft.place.find(name):
        return write(key, value, "model.path", str(found))
    if is_hub_id(name) and not name.startswith(("./", "../", "saves/", "output/", "models/")):
        note = "on a hub: the host must allow that, and resources.memory_bytes must be given; else set model.path"
        return write(key, value, "model.hub_id", name, note)
    return write(key, value, "model.path", name, "no such folder here; it is looked for on the daemon's host")


def _revision(draft: Draft, key: str, value: Any) -> Entry:
    on_hub = model(draft, key, draft.given.get("model_name_or_path", "")).field == "model.hub_id"
    return write(key, value, "model.revision", text(value)) if on_hub else ignore(key, value, "the model is a folder")


def _targets(draft: Draft, key: str, value: Any) -> Entry:
    names = words(value)
    everything = ["all-linear"] if names in (["all"], ["all-linear"], ["all_linear"]) else names
    return to_adapter("target_modules", lambda _: everything).apply(draft, key, value)  # type: ignore[return-value]


def _alpha(draft: Draft) -> Any:
    return 2 * draft.get("lora_rank", count, 8) if draft.method in ("lora", "qlora") else None


def adapter_start() -> Rule:
    """What a new adapter begins as, by peft's names."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        name = "default" if word(value) == "true" else word(value)
        if name not in _STARTS:
            return refuse(key, value, "is no start of an adapter here", f"accepted are true, {', '.join(_STARTS)}")
        return to_adapter("init", lambda _: name).apply(draft, key, value)  # type: ignore[return-value]

    return Rule(apply)


def _dora(draft: Draft, key: str, value: Any) -> Entry:
    if flag(value) and draft.method == "qlora":
        return refuse(key, value, "works on whole weights only, and the base is quantised", "turn one of them off")
    return to_adapter("dora", flag).apply(draft, key, value)  # type: ignore[return-value]


def _micro(draft: Draft) -> int:
    rule = draft.tool.table["per_device_train_batch_size"].default
    return draft.get("per_device_train_batch_size", count, rule or 1)


def _micro_batch(draft: Draft, key: str, value: Any) -> Entry:
    return write(key, value, "batch.micro_batch", *enough(draft, count(value)))


def _accumulated(draft: Draft, key: str, value: Any) -> Entry:
    micro, steps = _micro(draft), count(value)
    if draft.stage == "kto" and micro * steps % 2:
        why = f"{micro * steps} answers an update on a device cannot be parted into micro-batches of 2"
        return refuse(key, value, why, "set it to an even number")
    product = f"{micro} per device x {steps} accumulated x {draft.devices} device{'s' if draft.devices > 1 else ''}"
    return write(key, value, "batch.global_batch", micro * steps * draft.devices, product)


def packing(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    """Rows joined to long sequences, which their tool keeps apart in the attention."""
    if draft.stage not in ("sft", "pretrain") and flag(value):
        return refuse(key, value, f"the rows of {draft.stage} cannot be packed", "leave it out")
    packed = write(key, value, "data.packing", flag(value))
    theirs, here = "rows of one sequence do not see each other", "they do"
    apart = Entry(key, theirs, Kind.DEFAULTED, "data.packing", ours=here, text="set it to false to keep them apart")
    return [packed, apart] if flag(value) else packed


def precision(dtype: str) -> Rule:
    """A switch that turns a number format on."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if word(value) == "auto":
            return ignore(key, value, "as here: bf16 on a GPU")
        return write(key, value, "compute.precision", dtype) if flag(value) else ignore(key, value, "off")

    return Rule(apply)


def _gpus(draft: Draft, key: str, value: Any) -> Entry:
    devices = draft.devices
    if devices == 1:
        return ignore(key, value, "one device, as here; the scheduler chooses which")
    return write(key, value, "resources.gpus", devices, "the scheduler chooses which")


def _run_name(draft: Draft, key: str, value: Any) -> Entry:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in text(value).lower())
    name = kept.strip("-_.")[:63]
    return write(key, value, "name", name) if name else ignore(key, value, "no letter of it can be in a job's name")


def _trackers(draft: Draft, key: str, value: Any) -> Entry:
    names = [word(name) for name in words(value)]
    if names in (["none"], ["no"], []):
        return ignore(key, value, "as here")
    if names in (["all"], ["tensorboard"]):
        return write(key, value, "trackers", [{"tensorboard": {}}], "event files in the job's run directory")
    return ignore(
        key, value, "the same training; for wandb, mlflow or trackio write trackers, where the host allows it"
    )


_STARTS = ("default", "gaussian", "pissa", "olora", "orthogonal")
_NO_GPU_SHARDING = "one model is not spread over several GPUs"
_RUNS_AS_DATA_PARALLEL = "remove it if the model fits one GPU (ftctl plan tells), several train in parallel"
_HUB = ("nothing is pushed to a hub", "push the output afterwards, and set it to false")

TRAINER: dict[str, Rule] = {
    **EVALUATING,
    **UPDATING,
    "model_name_or_path": Rule(model),
    "model_revision": Rule(_revision),
    "lora_rank": to_adapter("rank", count),
    "lora_alpha": to_adapter("alpha", number, default=_alpha),
    "lora_dropout": to_adapter("dropout", number),
    "lora_target": Rule(_targets),
    "additional_target": to_adapter("modules_to_save", words),
    "use_rslora": to_adapter("rslora", flag),
    "use_dora": Rule(_dora),
    "per_device_train_batch_size": Rule(_micro_batch, default=8),
    "gradient_accumulation_steps": Rule(_accumulated, default=1),
    "resume_from_checkpoint": refused("a new job starts at the base model", "remove it; a job resumes by itself"),
    "ignore_data_skip": ignored("a job that resumes goes on in its data"),
    "bf16": precision("bf16"),
    "fp16": precision("fp16"),
    "tf32": ignored("the arithmetic of fp32 matrices is the trainer's"),
    "gradient_checkpointing": to("compute.gradient_checkpointing", flag),
    "gradient_checkpointing_kwargs": ignored("the same numbers either way"),
    "seed": to("seed", integer),
    "data_seed": ignored("one seed here orders the data too"),
    "full_determinism": ignored("the trainer decides"),
    "run_name": Rule(_run_name),
    "group_by_length": to("batch.group_by_length", flag),
    "report_to": Rule(_trackers),
    "push_to_hub": refused(*_HUB),
    "deepspeed": refused(_NO_GPU_SHARDING, _RUNS_AS_DATA_PARALLEL),
    "fsdp": refused(_NO_GPU_SHARDING, _RUNS_AS_DATA_PARALLEL),
    "fsdp_config": refused(_NO_GPU_SHARDING, _RUNS_AS_DATA_PARALLEL),
    "accelerator_config": refused("settings of accelerate cannot be given", "remove them"),
    "parallelism_config": refused(_NO_GPU_SHARDING, _RUNS_AS_DATA_PARALLEL),
    "average_tokens_across_devices": refused(
        "tokens are averaged over devices", "set it to true", unless=lambda value: not is_off(value)
    ),
    "use_liger_kernel": ignored("the same loss with other kernels"),
    "torch_compile": ignored("the same loss, compiled"),
    "remove_unused_columns": ignored("the preparation reads the columns it needs"),
    "label_names": ignored("the labels are the trainer's"),
    "predict_with_generate": Rule(answers),
    "train_sampling_strategy": ignored("rows are shuffled by the seed"),
    "$CUDA_VISIBLE_DEVICES": Rule(_gpus),
    "$NPROC_PER_NODE": Rule(_gpus),
    **{
        key: ignored("every step is reported and streamed")
        for key in ("logging_steps", "logging_strategy", "logging_first_step", "logging_dir", "log_level", "plot_loss")
    },
    **{
        key: ignored("how fast rows are read, not which")
        for key in (
            "dataloader_num_workers",
            "dataloader_pin_memory",
            "dataloader_persistent_workers",
            "dataloader_prefetch_factor",
        )
    },
    "dataloader_drop_last": refused("the last batch is trained on", "set it to false"),
    **{
        key: ignored("gone from transformers, or without effect on what is trained")
        for key in (
            "overwrite_output_dir",
            "save_safetensors",
            "include_tokens_per_second",
            "include_num_input_tokens_seen",
            "no_cuda",
            "past_index",
            "half_precision_backend",
            "disable_tqdm",
            "low_cpu_mem_usage",
            "cache_dir",
            "local_rank",
            "prediction_loss_only",
            "save_on_each_node",
            "eval_accumulation_steps",
            "torch_empty_cache_steps",
        )
    },
    "trust_remote_code": ignored("the host's configuration decides that, never a spec"),
}
FAMILIES: dict[str, Rule] = {
    "ddp_": ignored("how ranks talk, not what they learn"),
    "hub_": ignored("nothing is pushed to a hub"),
    "wandb_": ignored("the same training; write trackers: [{wandb: …}], where the host allows it"),
    "swanlab_": ignored("the same training; SwanLab is not told of it"),
    "ray_": refused("jobs run on this host, without Ray", "remove it"),
}
