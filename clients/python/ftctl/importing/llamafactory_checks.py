"""The combinations of keys that LLaMA-Factory itself refuses to start with. What it would not run is not imported."""

from __future__ import annotations

from ftctl.importing.rules import Check, Draft
from ftctl.importing.values import flag, integer, number, text, word, words


def _stage(draft: Draft) -> str:
    return draft.get("stage", word, "sft")


def _method(draft: Draft) -> str:
    return draft.get("finetuning_type", word, "lora")


def _loss(draft: Draft) -> str:
    return draft.get("pref_loss", word, "sigmoid")


def _held_back(draft: Draft) -> float:
    return draft.get("val_size", number, 0.0)


def _probabilities(draft: Draft, key: str) -> bool:
    """Whether there are other than one probability for each data set."""
    sets, shares = draft.get(key, words, [""]), draft.get("interleave_probs", words, [""])
    return draft.has("interleave_probs") and draft.has(key) and len(sets) != len(shares)


def _memory_optimizers(draft: Draft) -> int:
    return sum(draft.on(key) for key in ("use_galore", "use_apollo", "use_badam"))


def _zero3(draft: Draft) -> bool:
    name = draft.get("deepspeed", text, "").lower()
    return "z3" in name or "zero3" in name or "stage_3" in name


def _quantized(draft: Draft) -> bool:
    return draft.get("quantization_bit", integer, 0) > 0


def _adapters(draft: Draft) -> list[str]:
    return draft.get("adapter_name_or_path", words, [""]) if draft.has("adapter_name_or_path") else []


def _pissa_stage(draft: Draft) -> bool:
    return _stage(draft) in ("ppo", "kto") or (_stage(draft) == "dpo" and _loss(draft) not in ("orpo", "simpo"))


def _only_lora(key: str) -> Check:
    return Check(key, lambda d: d.has(key) and d.get(key, flag, True) and _method(d) != "lora", "is for LoRA only")


CHECKS: tuple[Check, ...] = (
    Check("val_size", lambda d: _held_back(d) > 0 and d.has("eval_dataset"), "stands beside eval_dataset"),
    Check("val_size", lambda d: _held_back(d) > 0 and not d.has("dataset"), "there is no dataset to take it from"),
    Check(
        "interleave_probs",
        lambda d: d.has("interleave_probs") and d.get("mix_strategy", word, "concat") == "concat",
        "has no meaning with mix_strategy concat",
    ),
    Check("interleave_probs", lambda d: _probabilities(d, "dataset"), "needs one for each data set"),
    Check("interleave_probs", lambda d: _probabilities(d, "eval_dataset"), "needs one for each eval data set"),
    Check("streaming", lambda d: d.on("streaming") and d.has("max_samples"), "excludes max_samples"),
    Check("streaming", lambda d: d.on("streaming") and 0 < _held_back(d) < 1, "excludes a val_size below 1"),
    Check("streaming", lambda d: d.on("streaming") and d.get("max_steps", integer, -1) < 1, "needs max_steps"),
    Check("mask_history", lambda d: d.on("mask_history") and d.on("train_on_prompt"), "excludes train_on_prompt"),
    *(
        Check(key, lambda d, key=key: d.on(key) and _stage(d) != "sft", "is for stage sft only")  # type: ignore[misc]
        for key in ("mask_history", "train_on_prompt", "neat_packing", "predict_with_generate")
    ),
    Check(
        "do_predict", lambda d: d.on("do_predict") and not d.on("predict_with_generate"), "needs predict_with_generate"
    ),
    Check("predict_with_generate", lambda d: d.on("predict_with_generate") and _zero3(d), "excludes ZeRO-3"),
    Check(
        "compute_accuracy",
        lambda d: d.on("compute_accuracy") and d.on("predict_with_generate"),
        "excludes predict_with_generate",
    ),
    Check(
        "quantization_bit",
        lambda d: _quantized(d) and _method(d) not in ("lora", "oft"),
        "is for lora and oft only",
    ),
    Check("quantization_bit", lambda d: _quantized(d) and d.on("pissa_init"), "excludes pissa_init"),
    Check("quantization_bit", lambda d: _quantized(d) and d.on("resize_vocab"), "excludes resize_vocab"),
    Check("quantization_bit", lambda d: _quantized(d) and len(_adapters(d)) > 1, "takes one adapter only"),
    Check(
        "create_new_adapter",
        lambda d: _quantized(d) and d.on("create_new_adapter") and bool(_adapters(d)),
        "excludes an adapter on a quantised base",
    ),
    Check("fp8", lambda d: d.on("fp8") and _quantized(d), "excludes quantization_bit"),
    Check("fp16", lambda d: d.on("fp16") and d.on("bf16"), "excludes bf16"),
    Check(
        "adapter_name_or_path",
        lambda d: bool(_adapters(d)) and _method(d) != "lora",
        "is for LoRA only",
    ),
    Check(
        "finetuning_type",
        lambda d: _method(d) == "lora" and _memory_optimizers(d) > 0,
        "lora excludes GaLore, APOLLO and BAdam",
    ),
    *(
        Check(key, lambda d, key=key: d.on(key) and _memory_optimizers(d) > 1, "is one of two that exclude each other")  # type: ignore[misc]
        for key in ("use_galore", "use_apollo", "use_badam")
    ),
    *(
        Check(key, lambda d, key=key: d.on(key) and d.has("deepspeed"), "excludes DeepSpeed")  # type: ignore[misc]
        for key in ("use_galore", "use_apollo")
    ),
    Check("galore_layerwise", lambda d: d.on("galore_layerwise") and d.devices > 1, "is for one GPU only"),
    *(_only_lora(key) for key in ("loraplus_lr_ratio", "use_rslora", "use_dora", "pissa_init")),
    Check("pissa_init", lambda d: d.on("pissa_init") and _pissa_stage(d), "is not for this stage"),
    Check(
        "dpo_label_smoothing",
        lambda d: d.get("dpo_label_smoothing", number, 0.0) > 0 and _loss(d) != "sigmoid",
        "is for the sigmoid loss only",
    ),
    Check("reward_model", lambda d: _stage(d) == "ppo" and not d.has("reward_model"), "is missing; ppo needs one"),
    Check(
        "load_best_model_at_end",
        lambda d: d.on("load_best_model_at_end") and _stage(d) in ("rm", "ppo"),
        "is not for rm and ppo",
    ),
    Check("use_llama_pro", lambda d: d.on("use_llama_pro") and _method(d) == "full", "is for freeze and lora only"),
    Check("pure_bf16", lambda d: d.on("pure_bf16") and _zero3(d), "excludes ZeRO-3"),
    Check("use_unsloth", lambda d: d.on("use_unsloth") and _zero3(d), "excludes ZeRO-3"),
    Check(
        "do_eval",
        lambda d: d.on("do_eval") and not d.has("eval_dataset") and not _held_back(d),
        "there is nothing to evaluate on",
    ),
)
