"""axolotl: its keys by LLaMA-Factory's or transformers' names, and what it does where nothing is said."""

from __future__ import annotations

from typing import Any

from ftctl.importing.axolotl_data import data, template
from ftctl.importing.evaluating import PATIENCE, evaluates
from ftctl.importing.llamafactory import TABLE as LLAMAFACTORY
from ftctl.importing.preferences import beta, likelihood, of_stage, stage_entries
from ftctl.importing.report import Entry
from ftctl.importing.rules import (
    Draft,
    Rule,
    Told,
    Tool,
    choice,
    command,
    differ,
    ignore,
    ignored,
    refuse,
    refused,
    shuffled,
    to,
    to_adapter,
    with_defaults,
    write,
)
from ftctl.importing.trainer import FAMILIES, TRAINER, adapter_start, packing
from ftctl.importing.values import count, flag, is_off, mapping, number, text, word, words

ALIGNMENTS = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "orpo": "orpo", "simpo": "cpo"}
LOSSES = {"dpo": "sigmoid", "ipo": "ipo"}
_SAME_PLUGINS = ("liger", "cut_cross_entropy")
_LONG = {"drop": "drop", "truncate": "truncate", "raise": "refuse"}


def stage(draft: Draft) -> str:
    """The stage by its name here; for an alignment that there is none for, its own name."""
    given = draft.get("rl", word, "")
    if given:
        return ALIGNMENTS.get(given, given)
    if draft.on("reward_model"):
        return "reward"
    return "pretrain" if draft.has("pretraining_dataset") else "sft"


def method(draft: Draft) -> str:
    """The method by its name here: without an adapter every parameter is trained."""
    given = draft.get("adapter", word, "full")
    bits = draft.on("load_in_4bit") or draft.on("load_in_8bit")
    return "qlora" if given == "lora" and bits else given


def _adapter(draft: Draft, key: str, value: Any) -> Entry:
    if word(value) not in ("lora", "qlora", "full"):
        return refuse(key, value, "this adapter cannot be trained yet", "accepted are lora and qlora")
    return write(key, value, draft.method, {})


def _rl(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    name = word(value)
    if name not in ALIGNMENTS:
        return refuse(key, value, "this alignment cannot be trained yet", f"accepted are {', '.join(ALIGNMENTS)}")
    chosen = stage_entries(draft, key, value, name)
    alone = name == "ipo" and not draft.get("rpo_alpha", number, 0.0)
    return [*chosen, write(key, value, "dpo.loss", name)] if alone else chosen


def _reward_model(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    return stage_entries(draft, key, value) if flag(value) else ignore(key, value, "off")


def _of_simpo(draft: Draft) -> Any:
    """TRL's weight of the likelihood, which axolotl leaves as it is."""
    return 1.0 if draft.stage == "cpo" else None


def _jinja(draft: Draft, key: str, value: Any) -> Entry:
    found = draft.place.find(text(value)) if "{" not in text(value) else None
    if found:
        return write(key, value, "data.chat_template_path", str(found))
    return refuse(key, value, "a template is a file here", "write it to a file, and give its path")


def _four_bits(draft: Draft, key: str, value: Any) -> Entry:
    if draft.method == "qlora":
        return write(key, value, "qlora", {}) if flag(value) else ignore(key, value, "the adapter is qlora")
    return ignore(key, value, "as here") if is_off(value) else refuse(key, value, "needs an adapter", "set adapter")


def _eight_bits(draft: Draft, key: str, value: Any) -> Entry:
    if is_off(value):
        return ignore(key, value, "as here")
    if draft.method != "qlora":
        return refuse(key, value, "needs an adapter", "set adapter: lora")
    return write(key, value, "qlora.quant_type", "int8")


def _least_rate(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    if draft.get("lr_scheduler_type", word, "cosine") != "cosine":
        return ignore(key, value, "the schedule is no cosine")
    chosen = write(key, value, "schedule.name", "cosine_with_min_lr")
    return [chosen, write(key, value, "schedule.min_lr_ratio", number(value))]


def _everything(draft: Draft, key: str, value: Any) -> Entry:
    if not flag(value):
        return ignore(key, value, "lora_target_modules tells")
    return to_adapter("target_modules", lambda _: ["all-linear"]).apply(draft, key, value)  # type: ignore[return-value]


def _targets(draft: Draft, key: str, value: Any) -> Entry:
    if draft.on("lora_target_linear"):
        return ignore(key, value, "lora_target_linear takes every linear layer")
    return TRAINER["lora_target"].apply(draft, key, value)  # type: ignore[return-value]


def _per_epoch(path: str) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        times = number(value)
        if path.startswith("evaluation") and not evaluates(draft):
            return ignore(key, value, "there is nothing to evaluate on")
        if times == 1:
            return write(key, value, path, "epoch")
        if times == 0:
            return write(key, value, path, "never")
        note = "set every_steps, when the number of updates is known, for the same"
        return differ(key, f"{times:g} times an epoch", path, note)

    return Rule(apply)


def _eval_strategy_default(draft: Draft) -> Any:
    if not evaluates(draft):
        return "no"
    return None if draft.has("evals_per_epoch") else "steps" if draft.has("eval_steps") else "epoch"


def _warmup_default(draft: Draft) -> Any:
    theirs = Told("0.03, at most 100 updates", "schedule.warmup_ratio")
    return None if draft.has("warmup_steps") else theirs


def _save_strategy_default(draft: Draft) -> Any:
    return "steps" if draft.has("save_steps") else None


def _train_on(draft: Draft, key: str, value: Any) -> Entry:
    return write(key, value, "sft.train_on", "all") if flag(value) else ignore(key, value, "as here")


def _attention(name: str) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        return write(key, value, "model.attention", name) if flag(value) else ignore(key, value, "off")

    return Rule(apply)


def _plugins(draft: Draft, key: str, value: Any) -> Entry:
    other = [name for name in words(value) if not any(known in name for known in _SAME_PLUGINS)]
    if other:
        return refuse(key, value, f"{', '.join(other)} is not there", "remove it")
    return ignore(key, value, "the same loss with other kernels")


def _special(draft: Draft, key: str, value: Any) -> Entry:
    others = set(mapping(value)) - {"pad_token"}
    if others:
        return refuse(key, value, f"{', '.join(sorted(others))} stays as the tokenizer has it", "remove it")
    return ignore(key, value, "padding is never trained on")


_SAME = (
    "dataset_prepared_path dataset_processes dataset_keep_in_memory pad_to_sequence_len "
    "eval_sample_packing sample_packing_group_size sample_packing_bin_size multipack_real_batches "
    "sample_packing_eff_est batch_flattening strict tokenizer_type model_type tokenizer_use_fast tokenizer_legacy "
    "is_llama_derived_model is_mistral_derived_model is_falcon_derived_model is_qwen_derived_model "
    "flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_qkv flash_attn_fuse_mlp lora_mlp_kernel "
    "lora_qkv_kernel lora_o_kernel auto_resume_from_checkpoints eval_table_size eval_max_new_tokens "
    "loss_watchdog_threshold loss_watchdog_patience gc_steps debug use_wandb use_mlflow use_comet use_tensorboard "
    "lora_on_cpu hf_use_auth_token push_dataset_to_hub device world_size local_rank profiler_steps float32 "
    "low_cpu_mem_usage gpu_memory_limit max_prompt_len lora_fan_in_fan_out pretrain_multipack_buffer_size "
    "pretrain_multipack_attn lisa_step_interval lisa_layers_attribute tokenizer_save_jinja_files use_ray "
    "experimental_skip_move_to_device merge_lora save_first_step skip_prepare_dataset group_by_length"
)
_OFF = (
    "gptq unfrozen_parameters relora relora_steps peft_layers_to_transform "
    "peft_layers_pattern peft_layer_replication loftq_config peft lora_target_parameters "
    "tokens resize_token_embeddings_to_32x shrink_embeddings xformers_attention flex_attention s2_attention "
    "sequence_parallel_degree context_parallel_size fp8 bfloat16 float16 hub_model_id"
    "do_bench_eval do_causal_lm_eval process_reward_model trl qat quantization vllm "
    "cosine_constant_lr_ratio lr_quadratic_warmup lr_groups embedding_lr embedding_lr_scale "
    "dpo_label_smoothing dpo_use_weighting lisa_n_layers use_pose curriculum_sampling "
    "tokenizer_config processor_type overrides_of_model_config model_config_kwargs "
    "added_tokens_overrides dataset_exact_deduplication min_sample_len batch_size bnb_config_kwargs "
    "auto_find_batch_size max_memory device_map fix_untrained_tokens dataset_shard_num torchdistx_path"
)
TABLE: dict[str, Rule] = {
    **with_defaults(
        TRAINER,
        per_device_train_batch_size=None,
        per_device_eval_batch_size=None,
        num_train_epochs=1,
        learning_rate=None,
        lora_alpha=None,
        lr_scheduler_type=None,
        warmup_steps=None,
        warmup_ratio=_warmup_default,
        gradient_checkpointing=False,
        eval_strategy=_eval_strategy_default,
        save_strategy=_save_strategy_default,
        save_steps=None,
        save_total_limit=4,
    ),
    **{key: ignored("without effect on what is trained, or as here") for key in _SAME.split()},
    **{key: refused(f"{key} is not there yet", "remove it") for key in _OFF.split()},
    "command": command("train"),
    "base_model_config": ignored("the model's own"),
    "adapter": Rule(_adapter, default="full"),
    "load_in_4bit": Rule(_four_bits),
    "load_in_8bit": Rule(_eight_bits),
    "peft_init_lora_weights": adapter_start(),
    "cosine_min_lr_ratio": Rule(_least_rate),
    "lora_target": Rule(_targets),
    "lora_target_linear": Rule(_everything),
    "rl": Rule(_rl),
    "rl_beta": beta(),
    "rpo_alpha": likelihood("rl", LOSSES),
    "orpo_alpha": of_stage("orpo.beta", number),
    "cpo_alpha": of_stage("cpo.nll_weight", number, default=_of_simpo),
    "simpo_gamma": of_stage("cpo.gamma", number),
    "kto_desirable_weight": of_stage("kto.desirable_weight", number),
    "kto_undesirable_weight": of_stage("kto.undesirable_weight", number),
    "reward_model": Rule(_reward_model),
    "num_labels": refused("a reward model has one label", "set it to 1", lambda v: str(v) == "1"),
    "center_rewards_coefficient": of_stage("reward.center_coefficient", number),
    "dataset": Rule(lambda draft, key, value: data(draft, key, value, "train")),
    "pretraining_dataset": Rule(
        lambda draft, key, value: [write(key, value, "pretrain", {}), *data(draft, key, value, "train")]
    ),
    "eval_dataset": Rule(lambda draft, key, value: data(draft, key, value, "eval")),
    "val_size": LLAMAFACTORY["val_size"],
    "sequence_len": to("data.max_length", count, default=512),
    "excess_length_strategy": choice("data.long_rows", _LONG, "this way to shorten rows", default="drop"),
    "sample_packing": Rule(packing),
    "train_on_inputs": Rule(_train_on),
    "chat_template": Rule(template),
    "chat_template_jinja": Rule(_jinja),
    "special_tokens": Rule(_special),
    "evals_per_epoch": _per_epoch("evaluation.cadence"),
    "saves_per_epoch": _per_epoch("checkpoints.cadence"),
    "flash_attention": _attention("flash_attention_2"),
    "sdp_attention": _attention("sdpa"),
    "eager_attention": _attention("eager"),
    "plugins": Rule(_plugins),
    "output_dir": LLAMAFACTORY["output_dir"],
    "early_stopping_patience": PATIENCE,
    "lora_model_dir": LLAMAFACTORY["adapter_name_or_path"],
    "default_system_message": LLAMAFACTORY["default_system"],
    "shuffle_merged_datasets": shuffled(),
}
ALIASES = {
    "datasets": "dataset",
    "base_model": "model_name_or_path",
    "revision_of_model": "model_revision",
    "lora_r": "lora_rank",
    "lora_target_modules": "lora_target",
    "lora_modules_to_save": "additional_target",
    "peft_use_dora": "use_dora",
    "peft_use_rslora": "use_rslora",
    "micro_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size",
    "num_epochs": "num_train_epochs",
    "optimizer": "optim",
    "lr_scheduler": "lr_scheduler_type",
    "val_set_size": "val_size",
    "test_datasets": "eval_dataset",
    "dpo_beta": "rl_beta",
    "eval_strategy": "eval_strategy",
    "evaluation_strategy": "eval_strategy",
}
_FAMILIES: dict[str, Rule] = {
    **FAMILIES,
    **{
        start: ignored("a tracker, a page, or another trainer's setting; nothing of it is trained")
        for start in ("mlflow_", "comet_", "gradio_", "liger_", "hf_mlflow", "cut_cross_entropy", "relora_", "$")
    },
    "unsloth_": ignored("the same loss with other kernels"),
}
AXOLOTL = Tool("axolotl", "axolotl", TABLE, stage, method, aliases=ALIASES, families=_FAMILIES)
