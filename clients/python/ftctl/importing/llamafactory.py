"""LLaMA-Factory: its keys, what it does where a file says nothing, and the combinations it refuses.

A new thing that a spec can say is one line of the table. Its second schema ("v1") is recognised and read by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftctl.importing.evaluating import PATIENCE
from ftctl.importing.llamafactory_checks import CHECKS
from ftctl.importing.llamafactory_data import (
    cutoff,
    cutoff_default,
    data,
    eval_split,
    mixing,
    of_conversations,
    packing,
    template,
    train_on,
)
from ftctl.importing.methods import FREEZING, ORTHOGONAL
from ftctl.importing.online import PPO
from ftctl.importing.preferences import OWN_STAGES, beta, likelihood, loss, of_stage, stage_entries
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
    to_adapter,
    with_defaults,
    write,
)
from ftctl.importing.trainer import FAMILIES, TRAINER
from ftctl.importing.updating import projected
from ftctl.importing.values import flag, integer, is_off, number, text, word, words

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "ppo": "ppo", "kto": "kto"}
METHODS = {"lora": "lora", "full": "full", "freeze": "freeze", "oft": "oft"}
LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo"}
_V1 = ("peft_config", "train_dataset", "dist_config", "quant_config", "micro_batch_size", "global_batch_size")


def is_v1(keys: Mapping[str, Any]) -> bool:
    """Whether a file is in LLaMA-Factory's second schema, which has other keys."""
    return "model_name_or_path" not in keys and "model" in keys and any(key in keys for key in _V1[:-2])


def stage(draft: Draft) -> str:
    """The stage by its name here; for one that there is none for, its own name."""
    given = draft.get("stage", word, "sft")
    if given == "dpo":
        return OWN_STAGES.get(draft.get("pref_loss", word, ""), "dpo")
    return STAGES.get(given, given)


def method(draft: Draft) -> str:
    """The method by its name here."""
    given = METHODS.get(draft.get("finetuning_type", word, "lora"), "")
    return "qlora" if given == "lora" and draft.get("quantization_bit", integer, 0) else given


def _stage(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    name = word(value)
    if name not in STAGES:
        return refuse(key, value, f"{name} cannot be trained", f"accepted: {', '.join(STAGES)}")
    return stage_entries(draft, key, value)


def _method(draft: Draft, key: str, value: Any) -> Entry:
    name = word(value)
    if name not in METHODS:
        return refuse(key, value, f"{name} cannot be trained", f"accepted: {', '.join(METHODS)}")
    return write(key, value, draft.method, {})


def _adapters(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    """The last adapter is trained on, unless a new one goes on top; those before it are merged into the model."""
    below = {"lora": "lora", "qlora": "qlora.lora"}.get(draft.method)
    if below is None:
        return refuse(key, value, f"{draft.method} has no adapter", "merge it into the base model first")
    folder = draft.get("adapter_folder", text, "")
    paths = [_weights(draft, f"{folder}/{name}" if folder else name) for name in words(value)]
    last = [] if draft.on("create_new_adapter") else paths[-1:]
    merged = paths[: len(paths) - len(last)]
    entries = [write(key, value, "model.adapters", merged, "merged into the model")] if merged else []
    return [*entries, *(write(key, value, f"{below}.continue_from", each, "trained on") for each in last)]


def _reference(draft: Draft, key: str, value: Any) -> Entry:
    if draft.stage != "dpo":
        return ignore(key, value, "not dpo")
    if key == "ref_model" and draft.has("ref_model_adapters"):
        return ignore(key, value, "its adapter names it")
    if len(words(value)) > 1:
        return refuse(key, value, "one reference is compared with", "merge them, and give the merged model")
    return write(key, value, "dpo.reference", _weights(draft, text(value)))


def _weights(draft: Draft, path: str) -> dict[str, str]:
    return {"path": str(draft.place.find(path) or path)}


def _quantized(draft: Draft, key: str, value: Any) -> Entry:
    bits, how = integer(value), draft.get("quantization_method", word, "bnb")
    if draft.method != "qlora":
        return refuse(key, value, f"{draft.method} cannot be trained on a quantised base", "use lora, or leave it out")
    if bits not in (4, 8) or how not in ("bnb", "bitsandbytes"):
        return refuse(key, value, f"{bits} bits by {how} cannot be trained on", "use 4 or 8 bits by bnb")
    if bits == 4:
        return write(key, value, "qlora", {})
    return write(key, value, "qlora.quant_type", "int8")


def _of_quantization(path: str, read: Callable[[Any], Any]) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.method != "qlora":
            return ignore(key, value, "the base is not quantised")
        if draft.get("quantization_bit", integer, 4) == 8:
            return ignore(key, value, "of 4 bits only")
        return write(key, value, f"qlora.{path}", read(value))

    return Rule(apply)


def _pissa(draft: Draft, key: str, value: Any) -> Entry:
    if not flag(value):
        return ignore(key, value, "off")
    return to_adapter("init", lambda _: "pissa").apply(draft, key, value)  # type: ignore[return-value]


def _pissa_iterations(draft: Draft, key: str, value: Any) -> Entry:
    if not draft.on("pissa_init") or integer(value) < 0:
        return ignore(key, value, "the exact decomposition" if draft.on("pissa_init") else "not PiSSA")
    return to_adapter("pissa_iterations", integer).apply(draft, key, value)  # type: ignore[return-value]


def _dft(draft: Draft, key: str, value: Any) -> Entry:
    if not flag(value) or draft.stage != "sft":
        return ignore(key, value, "off" if draft.stage == "sft" else "not sft")
    return write(key, value, "sft.loss", "dft")


def _thinking(draft: Draft, key: str, value: Any) -> Entry:
    if not flag(value) or draft.stage == "pretrain":
        return ignore(key, value, "the chat template decides")
    return write(key, value, "data.thinking", "keep", "a row whose thinking the template leaves out is dropped")


def _attention(draft: Draft, key: str, value: Any) -> Entry:
    names = {"sdpa": "sdpa", "disabled": "eager", "off": "eager", "fa2": "flash_attention_2"}
    name = "disabled" if value is False else word(value)
    if name == "auto":
        return ignore(key, value, "as here")
    return choice("model.attention", names, "this attention").apply(draft, key, name)  # type: ignore[return-value]


def _checkpointing(draft: Draft, key: str, value: Any) -> Entry:
    return write(key, value, "compute.gradient_checkpointing", not flag(value))


def _pure(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    if not flag(value):
        return ignore(key, value, "off")
    return [write(key, value, "model.dtype", "bf16"), write(key, value, "compute.precision", "bf16")]


def _dtype_default(draft: Draft) -> Any:
    if any(draft.on(key) for key in ("bf16", "fp16", "pure_bf16")):
        return None
    return Told("the format the model was saved in, without autocast", "compute.precision")


def _gpus_default(draft: Draft) -> Any:
    if draft.has("$NPROC_PER_NODE") or draft.has("$CUDA_VISIBLE_DEVICES"):
        return None
    return Told("all GPUs that it sees", "resources.gpus")


def _do_train(draft: Draft, key: str, value: Any) -> Entry:
    if flag(value):
        return ignore(key, value, "a job trains")
    return refuse(key, value, "a job trains", "evaluation, prediction and export are no jobs")


def _not_a_training(draft: Draft) -> Any:
    """Files for chat, export and prediction have no do_train."""
    return None if draft.has("dataset") else False


def _smoothing(draft: Draft, key: str, value: Any) -> Entry:
    if not number(value):
        return ignore(key, value, "0, as here")
    return refuse(key, value, "smooths the sigmoid loss there; here only the robust loss is smoothed", "set it to 0")


def _kept_off(why: str, *keys: str) -> dict[str, Rule]:
    return {key: refused(why, "remove it") for key in keys}


def _unused(why: str, *keys: str) -> dict[str, Rule]:
    return {key: ignored(why) for key in keys}


TABLE: dict[str, Rule] = {
    **with_defaults(TRAINER, **{"bf16": _dtype_default, "$NPROC_PER_NODE": _gpus_default}),
    "command": command("train"),
    "stage": Rule(_stage),
    "finetuning_type": Rule(_method),
    "do_train": Rule(_do_train, default=_not_a_training),
    "do_eval": ignored("evaluation.cadence decides when"),
    "dataset": Rule(lambda draft, key, value: data(draft, key, value, "train")),
    "eval_dataset": Rule(lambda draft, key, value: data(draft, key, value, "eval")),
    "dataset_dir": ignored("the folder of dataset_info.json; paths are written out"),
    "max_samples": ignored("stands at each source: max_samples"),
    "val_size": Rule(eval_split),
    "cutoff_len": Rule(cutoff, default=cutoff_default),
    "packing": Rule(packing),
    "neat_packing": refused("rows of one packed sequence see each other here", "use packing, or leave both out"),
    "template": Rule(template),
    "train_on_prompt": train_on("all"),
    "mask_history": train_on("last_assistant"),
    "quantization_bit": Rule(_quantized),
    "quantization_method": ignored("quantization_bit tells"),
    "quantization_type": _of_quantization("quant_type", word),
    "double_quantization": _of_quantization("double_quant", flag),
    "pref_beta": beta(),
    "pref_loss": loss("pref_ftx", LOSSES),
    "pref_ftx": likelihood("pref_loss", LOSSES),
    "ld_alpha": of_stage("dpo.ld_alpha", number),
    "simpo_gamma": of_stage("cpo.gamma", number),
    "kto_chosen_weight": of_stage("kto.desirable_weight", number),
    "kto_rejected_weight": of_stage("kto.undesirable_weight", number),
    "dpo_label_smoothing": Rule(_smoothing),
    **projected("galore"),
    **projected("apollo"),
    **_kept_off("this optimizer is not there", "use_badam", "use_adam_mini", "use_muon"),
    **FREEZING,
    **ORTHOGONAL,
    "pissa_init": Rule(_pissa),
    "pissa_iter": Rule(_pissa_iterations, default=lambda draft: 16 if draft.on("pissa_init") else None),
    **_kept_off("an adapter of PiSSA stays one of the changed weights", "pissa_convert"),
    "use_dft_loss": Rule(_dft),
    **_kept_off("this loss is not there", "use_asft_loss", "use_eaft_loss"),
    "flash_attn": Rule(_attention),
    "disable_gradient_checkpointing": Rule(_checkpointing, default=False),
    "pure_bf16": Rule(_pure),
    "mix_strategy": Rule(mixing),
    "early_stopping_steps": PATIENCE,
    "adapter_name_or_path": Rule(_adapters),
    "create_new_adapter": ignored("adapter_name_or_path tells"),
    "adapter_folder": ignored("stands in the adapters' paths"),
    "ref_model": Rule(_reference),
    "ref_model_adapters": Rule(_reference),
    "default_system": of_conversations("data.default_system", text),
    "enable_thinking": of_conversations("data.enable_thinking", flag),
    "tokenized_path": ignored("prepared rows are cached by the daemon"),
    "streaming": ignored("rows are prepared on the disk and mapped into memory: a set may be larger than it"),
    "ignore_pad_token_for_loss": refused("padding is never trained on", "set it to true", lambda v: not is_off(v)),
    "use_fast_tokenizer": ignored("the tokenizer's own files decide"),
    **_kept_off("this part of a preference loss is not there yet", "pref_bco_weight"),
    **_kept_off("the reference is not quantised", "ref_model_quantization_bit"),
    **_kept_off("an adapter names its base", "reward_model_adapters"),
    **_kept_off("fp8 is not there yet", "fp8"),
    **_kept_off("this change of the model is not there yet", "rope_scaling", "shift_attn", "mixture_of_depths"),
    **_kept_off("this change of the model is not there yet", "moe_aux_loss_coef", "train_from_scratch"),
    **_kept_off("the vocabulary stays as it is", "resize_vocab", "add_tokens", "add_special_tokens"),
    **_kept_off("the vocabulary stays as it is", "new_special_tokens_config", "split_special_tokens"),
    **_kept_off("Unsloth is another trainer", "use_unsloth"),
    **_kept_off("Megatron is another trainer", "use_mca"),
    **_kept_off("prediction is no training", "do_predict"),
    **_kept_off("an export is no training", "export_dir", "export_hub_model_id", "export_quantization_bit"),
    **_kept_off("rows are shuffled by the seed", "disable_shuffling"),
    **_kept_off("the language model is what is trained", "freeze_language_model"),
    "freeze_vision_tower": refused("text alone is trained on", "leave it on", lambda v: not is_off(v)),
    "freeze_multi_modal_projector": refused("text alone is trained on", "leave it on", lambda v: not is_off(v)),
    "tool_format": ignored("the chat template writes the tools"),
    "preserve_thinking": Rule(_thinking),
    **_unused("the same numbers either way", "use_unsloth_gc", "use_reentrant_gc", "enable_liger_kernel"),
    **_unused("the same numbers either way", "use_v1_kernels", "upcast_layernorm", "upcast_lmhead_output"),
    **_unused("how rows are prepared, not which", "overwrite_cache", "preprocessing_batch_size", "buffer_size"),
    **_unused("how rows are prepared, not which", "preprocessing_num_workers", "data_shared_file_system", "media_dir"),
    "interleave_probs": ignored("stands at each source: weight"),
    "eval_on_each_dataset": ignored("each set of several has figures of its own"),
    **_unused("an evaluation tells the accuracy of tokens by itself", "compute_accuracy"),
    **_unused("a figure of speed; tokens per second are reported", "include_effective_tokens_per_second"),
    **_unused("a tracker; every step is in the journal", "use_swanlab"),
    **_unused("a secret; nothing is fetched", "hf_hub_token", "ms_hub_token", "om_hub_token"),
    **_unused("where a quantised reward model is loaded", "reward_model_quantization_bit"),
    **PPO,
    **_unused("for generating text only", "do_sample", "num_beams", "eval_num_beams"),
    **_unused("for generating text only", "max_length", "length_penalty"),
    **_unused("for generating text only", "skip_special_tokens", "generation_max_length", "generation_num_beams"),
    **_unused("for serving only", "infer_backend", "infer_dtype", "offload_folder", "use_kv_cache"),
    **_unused("where a quantised model is served", "quantization_device_map"),
    **_unused("for debugging", "print_param_status"),
    "output_dir": ignored("the output is in the job's run directory; set output.path for another folder"),
    "$NNODES": refused("jobs run on one host", "use its GPUs: resources.gpus", lambda v: str(v) == "1"),
    "resources_per_worker": ignored("not Ray"),
    "placement_strategy": ignored("not Ray"),
}
_FAMILIES: dict[str, Rule] = {
    **FAMILIES,
    **{start: ignored("this optimizer is not used") for start in ("badam_",)},
    **{start: ignored("text alone is trained on") for start in ("image_", "video_", "audio_", "crop_to", "use_audio")},
    **{start: ignored("for serving only") for start in ("vllm_", "sglang_", "export_")},
    "fp8_": ignored("fp8 is not used"),
    "$": ignored("how the tool is launched, not what it trains"),
}
ALIASES = {"eval_strategy": "eval_strategy", "evaluation_strategy": "eval_strategy"}

LLAMAFACTORY = Tool(
    "llamafactory", "LLaMA-Factory", TABLE, stage, method, aliases=ALIASES, families=_FAMILIES, checks=CHECKS
)
V1 = Tool(
    "llamafactory",
    "LLaMA-Factory",
    {},
    stage,
    method,
    families={
        "": refused(
            "belongs to the schema of its version 1 (USE_V1)", "write the file with the usual keys", lambda _: False
        )
    },
)
