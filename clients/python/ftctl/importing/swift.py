"""ms-swift: its keys by LLaMA-Factory's or transformers' names, and what it does where nothing is said.

Whether it is `swift sft`, `pt` or `rlhf` stands on the command line; a file alone is read as sft, or rlhf where it has
rlhf_type.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from ftctl.importing import values
from ftctl.importing.dataset_info import ENDINGS
from ftctl.importing.evaluating import PATIENCE
from ftctl.importing.llamafactory import TABLE as LLAMAFACTORY
from ftctl.importing.online import GRPO
from ftctl.importing.place import tidy
from ftctl.importing.preferences import beta, likelihood, loss, of_stage, stage_entries
from ftctl.importing.report import Entry
from ftctl.importing.rules import (
    Draft,
    Rule,
    Told,
    Tool,
    choice,
    command,
    ignore,
    ignored,
    refuse,
    refused,
    shuffled,
    to,
    with_defaults,
    write,
)
from ftctl.importing.trainer import FAMILIES, TRAINER, adapter_start, packing
from ftctl.importing.values import count, flag, number, text, word, words

STAGES = {"pt": "pretrain", "sft": "sft"}
ALIGNMENTS = {"dpo": "dpo", "kto": "kto", "orpo": "orpo", "cpo": "cpo", "simpo": "cpo", "rm": "reward", "grpo": "grpo"}
METHODS = {"lora": "lora", "full": "full"}
LOSSES = {name: name for name in ("sigmoid", "hinge", "ipo", "robust")}
_TRAIN_ON = {"default": "assistant", "last_round": "last_assistant", "all": "all"}
_LONG = {"delete": "drop", "right": "truncate"}
# How the answers of a data set are named, in its own words and in an alpaca row's.
_QUERY = {"query": "instruction", "response": "output", "system": "system", "history": "history"}


def stage(draft: Draft) -> str:
    """The stage by its name here; for an alignment that there is none for, its own name."""
    verb = draft.get("command", word, "rlhf" if draft.has("rlhf_type") else "sft")
    given = _alignment(draft)
    return STAGES.get(verb, ALIGNMENTS.get(given, given))


def _alignment(draft: Draft) -> str:
    return draft.get("rlhf_type", word, "dpo")


def method(draft: Draft) -> str:
    """The method by its name here."""
    given = METHODS.get(draft.get("finetuning_type", word, "lora"), "")
    return "qlora" if given == "lora" and draft.get("quantization_bit", values.integer, 0) else given


def _command(draft: Draft, key: str, value: Any) -> Entry:
    if str(value) in STAGES:
        return write(key, value, STAGES[str(value)], {})
    return command("rlhf", *STAGES).apply(draft, key, value)  # type: ignore[return-value]


def _rlhf(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    if word(value) not in ALIGNMENTS:
        return refuse(key, value, "this alignment cannot be trained yet", f"accepted are {', '.join(ALIGNMENTS)}")
    return stage_entries(draft, key, value, word(value))


def _beta_default(draft: Draft) -> Any:
    return 0.04 if draft.stage == "grpo" else _of_simpo(2.0)(draft)


def _of_simpo(size: float) -> Any:
    """What ms-swift does by itself, where that is not what happens here."""
    return lambda draft: size if draft.stage == "cpo" and _alignment(draft) == "simpo" else None


def _method(draft: Draft, key: str, value: Any) -> Entry:
    if word(value) not in METHODS:
        return refuse(key, value, "this method cannot be trained yet", f"accepted are {', '.join(METHODS)}")
    return write(key, value, draft.method, {})


def _data(draft: Draft, key: str, value: Any, split: str) -> list[Entry]:
    """Local files, each perhaps with the number of its rows: rows.jsonl#500."""
    entries: list[Entry] = []
    sources: list[dict[str, Any]] = []
    if not words(value):
        raise ValueError("names no data set")
    for item in words(value):
        name, _, number_of_rows = item.partition("#")
        path = draft.place.find(name)
        if Path(name).suffix.lower() not in ENDINGS:
            entries.append(refuse(key, item, "is not on this host", f"--set {key} to a file ({', '.join(ENDINGS)})"))
            continue
        source: dict[str, Any] = {"path": str(path or tidy(draft.place.folder / name)), **_columns(draft, path)}
        if number_of_rows:
            source["max_samples"] = count(number_of_rows)
            entries.append(write(f"{key}#", item, "max_samples", None, "the first rows; ms-swift draws them"))
        sources.append(source)
    return [write(key, value, f"data.{split}", sources), *entries] if sources else entries


def _columns(draft: Draft, path: Path | None) -> dict[str, Any]:
    """Rows of query and response are alpaca's under other names; all other rows are told apart by their columns."""
    nothing: dict[str, Any] = {}
    renamed = draft.get("columns", values.mapping, nothing)
    found = {renamed.get(name, name): name for name in (draft.place.columns(path) if path else None) or renamed}
    if not {"query", "response"} <= set(found):
        return {}
    columns = {ours: found[name] for name, ours in _QUERY.items() if name in found and found[name] != ours}
    return {"format": "alpaca", "columns": columns}


def _renamed(draft: Draft, key: str, value: Any) -> Entry:
    if {"query", "response"} <= set(values.mapping(value).values()):
        return write(key, value, "columns", None, "stands at each source")
    return refuse(key, value, "only query and response can be renamed", "rename the columns in the files")


def _accumulation(draft: Draft) -> Any:
    """As many steps as make 16 sequences an update."""
    return ceil(16 / (draft.get("per_device_train_batch_size", count, 1) * draft.devices))


def _rate(draft: Draft) -> Any:
    return 1e-5 if draft.method == "full" else 1e-4


def _warmup(draft: Draft) -> Any:
    return None if draft.has("warmup_steps") else 0


def _eval_strategy(draft: Draft) -> str:
    return draft.get("save_strategy", word, "steps")


def _eval_strategy_default(draft: Draft) -> Any:
    return _eval_strategy(draft) if draft.has("eval_dataset") or draft.get("val_size", number, 0.0) else "no"


def _dtype(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    name = names.get(word(value))
    if name is None:
        raise ValueError(f"expected one of {', '.join(names)}")
    precision = write(key, value, "compute.precision", name)
    return precision if draft.method == "full" else [precision, write(key, value, "model.dtype", name)]


def _loss_scale(draft: Draft, key: str, value: Any) -> Entry:
    if draft.stage != "sft":
        return ignore(key, value, "as here") if word(value) in _TRAIN_ON else refuse(key, value, *_WEIGHTS)
    name = word(value)
    return write(key, value, "sft.train_on", _TRAIN_ON[name]) if name in _TRAIN_ON else refuse(key, value, *_WEIGHTS)


def _attention(draft: Draft, key: str, value: Any) -> Entry:
    names = {name: name for name in ("sdpa", "eager", "flash_attention_2")} | {"flash_attn": "flash_attention_2"}
    return choice("model.attention", names, "this attention").apply(draft, key, value)  # type: ignore[return-value]


def _chat(draft: Draft, key: str, value: Any) -> Entry:
    if flag(value) != (draft.stage == "pretrain"):
        return ignore(key, value, "as here")
    return refuse(key, value, f"{draft.stage} renders rows as it always does", "leave it out")


_WEIGHTS = ("tokens have no weights of their own", "use default, last_round or all")
_RULES = "this rule of what is trained cannot be given"
_SAME = (
    "padding_free use_logits_to_keep dataset_num_proc load_from_cache_file lazy_tokenize download_mode strict "
    "shuffle_buffer_size add_version check_model create_checkpoint_symlink use_hf hub_token custom_dataset_info "
    "model_type model_author model_name packing_num_proc acc_strategy use_flash_ckpt ignore_args_error load_args "
    "load_data_args val_dataset_shuffle padding_side tuner_backend "
    "max_new_tokens num_beams stream merge_lora max_shard_size safe_serialization use_ray "
    "template_backend response_prefix agent_template remove_unused_columns logging_nan_inf_filter "
    "bnb_4bit_quant_storage bnb_4bit_compute_dtype lora_dtype lisa_step_interval norm_bbox "
    "freeze_vit freeze_aligner max_pixels vit_gradient_checkpointing vit_lr aligner_lr eval_limit max_model_len"
)
_OFF = (
    "target_regex target_parameters freeze_parameters freeze_parameters_regex freeze_parameters_ratio "
    "trainable_parameters trainable_parameters_regex use_galore lisa_activated_layers sequence_parallel_size "
    "rope_scaling new_special_tokens external_plugins custom_register_path interleave_prob cached_dataset "
    "enable_channel_loss label_smoothing loss_weights "
    "task_type num_labels problem_type freeze_llm optimizer metric eval_use_evalscope "
    "router_aux_loss_coef packing_length max_epochs resume_only_model device_map max_memory model_kwargs "
    "init_strategy teacher_model"
)
TABLE: dict[str, Rule] = {
    **with_defaults(
        TRAINER,
        learning_rate=_rate,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=None,
        gradient_accumulation_steps=_accumulation,
        weight_decay=0.1,
        adam_beta2=0.95,
        lr_scheduler_type=None,
        warmup_steps=None,
        warmup_ratio=_warmup,
        lora_alpha=lambda draft: 32 if draft.method in ("lora", "qlora") else None,
        lora_dropout=lambda draft: 0.05 if draft.method in ("lora", "qlora") else None,
        eval_strategy=_eval_strategy_default,
        gradient_checkpointing=True,
    ),
    **{key: ignored("without effect on what is trained, or as here") for key in _SAME.split()},
    **{key: refused(f"{key} is not there yet", "remove it") for key in _OFF.split()},
    "command": Rule(_command),
    "rlhf_type": Rule(_rlhf, default=lambda draft: "dpo" if draft.get("command", word, "") == "rlhf" else None),
    "finetuning_type": Rule(_method),
    "dataset": Rule(lambda draft, key, value: _data(draft, key, value, "train")),
    "eval_dataset": Rule(lambda draft, key, value: _data(draft, key, value, "eval")),
    "val_size": LLAMAFACTORY["val_size"],
    "columns": Rule(_renamed),
    "cutoff_len": to("data.max_length", count, default=Told("the model's own limit", "data.max_length")),
    "truncation_strategy": choice("data.long_rows", _LONG, "this way to shorten rows", default="delete"),
    "packing": Rule(packing),
    "template": LLAMAFACTORY["template"],
    "loss_scale": Rule(_loss_scale),
    "torch_dtype": Rule(_dtype, default=Told("the format the model was saved in", "model.dtype")),
    "attn_impl": Rule(_attention),
    "quantization_bit": LLAMAFACTORY["quantization_bit"],
    "quantization_method": ignored("quant_bits tells"),
    "quantization_type": LLAMAFACTORY["quantization_type"],
    "double_quantization": LLAMAFACTORY["double_quantization"],
    "lora_bias": refused("biases are not trained", "use none", lambda v: text(v) == "none"),
    "init_weights": adapter_start(),
    "beta": replace(beta(), default=_beta_default),
    "loss_type": loss("rpo_alpha", LOSSES),
    "rpo_alpha": likelihood("loss_type", LOSSES),
    "ld_alpha": of_stage("dpo.ld_alpha", number),
    "cpo_alpha": of_stage("cpo.nll_weight", number, default=_of_simpo(1.0)),
    "simpo_gamma": of_stage("cpo.gamma", number, default=_of_simpo(1.0)),
    "desirable_weight": of_stage("kto.desirable_weight", number),
    "undesirable_weight": of_stage("kto.undesirable_weight", number),
    "center_rewards_coefficient": of_stage("reward.center_coefficient", number),
    **GRPO,
    "use_dft_loss": LLAMAFACTORY["use_dft_loss"],
    "output_dir": LLAMAFACTORY["output_dir"],
    "adapter_name_or_path": LLAMAFACTORY["adapter_name_or_path"],
    "early_stop_interval": PATIENCE,
    "system": LLAMAFACTORY["default_system"],
    "ref_model": LLAMAFACTORY["ref_model"],
    "ref_adapters": LLAMAFACTORY["ref_model_adapters"],
    "streaming": LLAMAFACTORY["streaming"],
    "dataset_shuffle": shuffled(),
    "train_dataloader_shuffle": shuffled(),
    "use_chat_template": Rule(_chat),
    "$NNODES": LLAMAFACTORY["$NNODES"],
}
ALIASES = {
    "enable_dft_loss": "use_dft_loss",
    "model": "model_name_or_path",
    "adapters": "adapter_name_or_path",
    "tuner_type": "finetuning_type",
    "train_type": "finetuning_type",
    "sft_type": "finetuning_type",
    "target_modules": "lora_target",
    "modules_to_save": "additional_target",
    "max_length": "cutoff_len",
    "val_dataset": "eval_dataset",
    "split_dataset_ratio": "val_size",
    "lorap_lr_ratio": "loraplus_lr_ratio",
    "quant_bits": "quantization_bit",
    "quant_method": "quantization_method",
    "bnb_4bit_quant_type": "quantization_type",
    "bnb_4bit_use_double_quant": "double_quantization",
    "interleave_probs": "interleave_prob",
    "eval_strategy": "eval_strategy",
    "evaluation_strategy": "eval_strategy",
}
_FAMILIES: dict[str, Rule] = {
    **FAMILIES,
    **{
        start: ignored("belongs to a method, a server or a tracker that is not used")
        for start in (
            "galore_",
            "lora_ga_",
            "fourier_",
            "boft_",
            "vera_",
            "llamapro_",
            "adalora_",
            "reft_",
            "vllm_",
            "sglang_",
            "lmdeploy_",
            "hqq_",
            "eval_dataset_",
            "eval_generation_",
            "zero_hpz",
            "deepspeed_autotp",
            "$",
        )
    },
}

SWIFT = Tool("swift", "ms-swift", TABLE, stage, method, aliases=ALIASES, families=_FAMILIES)
