"""LLaMA-Factory: its keys, what it does where a file says nothing, and the combinations it refuses.

A new thing that a spec can say is one line of the table. Its second schema ("v1") is recognised and read by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ftctl.importing import dataset_info
from ftctl.importing.llamafactory_checks import CHECKS
from ftctl.importing.place import tidy
from ftctl.importing.preferences import OWN_STAGES, beta, likelihood, loss, of_stage, stage_entries
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
    with_defaults,
    write,
)
from ftctl.importing.trainer import FAMILIES, TRAINER
from ftctl.importing.values import flag, integer, is_off, number, text, word, words

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto"}
METHODS = {"lora": "lora", "full": "full", "freeze": "freeze"}
_LATER = {"ppo": "PPO", "oft": "OFT"}
LOSSES = {"sigmoid": "sigmoid", "hinge": "hinge", "ipo": "ipo"}
# Templates that no tokenizer carries: the prompt will read differently.
_GENERIC = ("alpaca", "default", "empty", "fewshot", "vicuna", "belle", "aquila", "ziya", "original")
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
        return refuse(key, value, f"{_LATER.get(name, name)} cannot be trained yet", f"accepted: {', '.join(STAGES)}")
    return stage_entries(draft, key, value)


def _method(draft: Draft, key: str, value: Any) -> Entry:
    name = word(value)
    if name not in METHODS:
        return refuse(key, value, f"{_LATER.get(name, name)} cannot be trained yet", f"accepted: {', '.join(METHODS)}")
    return write(key, value, draft.method, {})


def _data(draft: Draft, key: str, value: Any, split: str) -> list[Entry]:
    """The named data sets, looked up in dataset_info.json."""
    folder = draft.get("dataset_dir", text, "data")
    path = draft.files.get("dataset_info") or draft.place.find(f"{folder}/dataset_info.json")
    if path is None:
        why = f"no dataset_info.json in {folder!r}, so nobody knows which files these are"
        return [refuse(key, value, why, "give it with --dataset-info")]
    info = dataset_info.load(path, draft.place.look)
    entries: list[Entry] = []
    sources: list[dict[str, Any]] = []
    if not words(value):
        raise ValueError("names no data set")
    for name in words(value):
        given = info.sets.get(name)
        if not isinstance(given, Mapping):
            entries.append(refuse(key, value, f"{path} has no data set {name!r}", f"it has {', '.join(info.sets)}"))
            continue
        path_of = tidy(info.folder / str(given.get("file_name", "")))
        found = dataset_info.DataSet(name, given, path_of, draft.stage)
        made, told = dataset_info.source(found, draft.place, draft.get("max_samples", integer, None))
        sources += [made] if made else []
        entries += told
    return [write(key, value, f"data.{split}", sources or None, f"by {path}"), *entries]


def _cutoff(draft: Draft, key: str, value: Any) -> Entry:
    length = integer(value)
    if draft.on("packing") or draft.on("neat_packing"):
        return write(key, value, "data.max_length", length - 1, "one less: LLaMA-Factory takes one off when it packs")
    note = "a row over it is cut at the end; LLaMA-Factory shortens question and answer in proportion"
    return write(key, value, "data.max_length", length, "" if draft.stage == "pretrain" else note)


def _cutoff_default(draft: Draft) -> Any:
    return 2048 if draft.on("packing") or draft.on("neat_packing") else None


def _packing(draft: Draft, key: str, value: Any) -> Entry | list[Entry]:
    if draft.stage not in ("sft", "pretrain"):
        return ignore(key, value, f"the rows of {draft.stage} are not packed, there either")
    if not flag(value):
        return write(key, value, "data.packing", False)
    if draft.stage == "sft":
        dropped = write(key, value, "data.long_rows", "drop", "a row that is too long to be packed is left out there")
        return [write(key, value, "data.packing", True), dropped]
    return write(key, value, "data.packing", True, "whole texts, best fit; LLaMA-Factory cuts one long string of them")


def _template(draft: Draft, key: str, value: Any) -> Entry:
    name = word(value)
    if draft.stage == "pretrain":
        return ignore(key, value, "plain text has no template")
    if name in _GENERIC:
        note = "prompts read differently; set data.chat_template_path to a Jinja file of it for the same"
        return differ(key, f"the template {name}", "data.chat_template_path", note)
    return write(key, value, "data.chat_template_path", None, "the chat template of the model's tokenizer")


def _train_on(what: str) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if not flag(value):
            return ignore(key, value, "as here")
        return write(key, value, "sft.train_on", what)

    return Rule(apply)


def _eval_split(draft: Draft, key: str, value: Any) -> Entry:
    size = number(value)
    if size >= 1:
        return refuse(key, value, "is a number of rows; a share is accepted", "divide it by the number of rows")
    return write(key, value, "data.eval_split", float(size)) if size else ignore(key, value, "0: none, as here")


def _quantized(draft: Draft, key: str, value: Any) -> Entry:
    bits, how = integer(value), draft.get("quantization_method", word, "bnb")
    if bits != 4 or how not in ("bnb", "bitsandbytes"):
        return refuse(key, value, f"{bits} bits by {how} cannot be trained on", "use 4 bits by bnb")
    return write(key, value, "qlora", {})


def _of_quantization(path: str, read: Callable[[Any], Any]) -> Rule:
    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if draft.method != "qlora":
            return ignore(key, value, "the base is not quantised")
        return write(key, value, f"qlora.{path}", read(value))

    return Rule(apply)


def _frozen(draft: Draft, key: str, value: Any) -> Entry:
    layers = integer(value)
    if draft.method != "freeze":
        return ignore(key, value, "not freeze")
    if layers < 1:
        return refuse(key, value, "the first layers alone cannot be trained", "give the number of last layers")
    return write(key, value, "freeze.trainable_layers", layers)


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
    "dataset": Rule(lambda draft, key, value: _data(draft, key, value, "train")),
    "eval_dataset": Rule(lambda draft, key, value: _data(draft, key, value, "eval")),
    "dataset_dir": ignored("the folder of dataset_info.json; paths are written out"),
    "max_samples": ignored("stands at each source: max_samples"),
    "val_size": Rule(_eval_split),
    "cutoff_len": Rule(_cutoff, default=_cutoff_default),
    "packing": Rule(_packing),
    "neat_packing": refused("rows of one packed sequence see each other here", "use packing, or leave both out"),
    "template": Rule(_template),
    "train_on_prompt": _train_on("all"),
    "mask_history": _train_on("last_assistant"),
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
    "freeze_trainable_layers": Rule(_frozen),
    "freeze_trainable_modules": refused("the layers are trained whole", "use all", lambda v: words(v) == ["all"]),
    "flash_attn": Rule(_attention),
    "disable_gradient_checkpointing": Rule(_checkpointing, default=False),
    "pure_bf16": Rule(_pure),
    "mix_strategy": refused("data sets are joined, not interleaved", "use concat", lambda v: word(v) == "concat"),
    "tokenized_path": ignored("prepared rows are cached by the daemon"),
    "streaming": refused("rows are prepared before the training", "set it to false, and name local files"),
    "ignore_pad_token_for_loss": refused("padding is never trained on", "set it to true", lambda v: not is_off(v)),
    "use_fast_tokenizer": ignored("the tokenizer's own files decide"),
    "enable_thinking": ignored("the chat template decides"),
    **_kept_off("nothing but the base model and its first adapter is loaded", "adapter_folder", "create_new_adapter"),
    **_kept_off("PiSSA is not there yet", "pissa_init", "pissa_convert"),
    **_kept_off("LLaMA Pro is not there yet", "use_llama_pro"),
    **_kept_off("only the last layers are trained", "freeze_extra_modules"),
    **_kept_off(
        "this optimizer is not there yet", "use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon"
    ),
    **_kept_off("this loss is not there yet", "use_dft_loss", "use_asft_loss", "use_eaft_loss"),
    **_kept_off("this part of a preference loss is not there yet", "pref_bco_weight"),
    **_kept_off("the reference is the base model", "ref_model", "ref_model_adapters", "ref_model_quantization_bit"),
    **_kept_off("reward models are not there yet", "reward_model", "reward_model_adapters"),
    **_kept_off("fp8 is not there yet", "fp8"),
    **_kept_off("this change of the model is not there yet", "rope_scaling", "shift_attn", "mixture_of_depths"),
    **_kept_off("this change of the model is not there yet", "moe_aux_loss_coef", "train_from_scratch"),
    **_kept_off("the vocabulary stays as it is", "resize_vocab", "add_tokens", "add_special_tokens"),
    **_kept_off("the vocabulary stays as it is", "new_special_tokens_config", "split_special_tokens"),
    **_kept_off("Unsloth is another trainer", "use_unsloth"),
    **_kept_off("Megatron is another trainer", "use_mca"),
    **_kept_off("no early stop yet", "early_stopping_steps"),
    **_kept_off("prediction is no training", "do_predict"),
    **_kept_off("an export is no training", "export_dir", "export_hub_model_id", "export_quantization_bit"),
    **_kept_off("rows are shuffled by the seed", "disable_shuffling"),
    **_kept_off("the system text of a row is used, and no other", "default_system"),
    **_kept_off("data sets are evaluated together", "eval_on_each_dataset"),
    **_kept_off("the language model is what is trained", "freeze_language_model"),
    "freeze_vision_tower": refused("text alone is trained on", "leave it on", lambda v: not is_off(v)),
    "freeze_multi_modal_projector": refused("text alone is trained on", "leave it on", lambda v: not is_off(v)),
    "tool_format": ignored("the chat template writes the tools"),
    "preserve_thinking": ignored("the chat template decides"),
    **_unused("the same numbers either way", "use_unsloth_gc", "use_reentrant_gc", "enable_liger_kernel"),
    **_unused("the same numbers either way", "use_v1_kernels", "upcast_layernorm", "upcast_lmhead_output"),
    **_unused("how rows are prepared, not which", "overwrite_cache", "preprocessing_batch_size", "buffer_size"),
    **_unused("how rows are prepared, not which", "preprocessing_num_workers", "data_shared_file_system", "media_dir"),
    "interleave_probs": ignored("mix_strategy tells"),
    **_unused("a metric of an evaluation; the loss is reported", "compute_accuracy"),
    **_unused("a figure of speed; tokens per second are reported", "include_effective_tokens_per_second"),
    **_unused("a tracker; every step is in the journal", "use_swanlab"),
    **_unused("a secret; nothing is fetched", "hf_hub_token", "ms_hub_token", "om_hub_token"),
    **_unused("not PPO", "ppo_buffer_size", "ppo_epochs", "ppo_score_norm", "ppo_target", "ppo_whiten_rewards"),
    **_unused("not PPO", "reward_model_type", "reward_model_quantization_bit"),
    **_unused("not OFT", "oft_rank", "oft_block_size", "oft_target", "module_dropout"),
    **_unused("not PiSSA", "pissa_iter"),
    **_unused("for generating text only", "do_sample", "temperature", "top_p", "top_k", "num_beams", "eval_num_beams"),
    **_unused("for generating text only", "max_length", "max_new_tokens", "repetition_penalty", "length_penalty"),
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
    **{start: ignored("this optimizer is not used") for start in ("galore_", "apollo_", "badam_")},
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
