"""The rules that LLaMA-Factory's files are read by: derived values, spellings, data sets, combinations it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftctl.importing.llamafactory import LLAMAFACTORY
from ftctl.importing.report import Entry, Kind, Report

Read = Callable[..., Report]
GOOD: dict[str, Any] = {
    "model_name_or_path": "owner/name",
    "do_train": True,
    "dataset": "answers",
    "dataset_dir": "data",
    "bf16": True,
}


def entry(found: Report, key: str) -> Entry:
    return next(each for each in found.entries if each.key == key)


@pytest.fixture
def read(imported: Read) -> Read:
    return lambda **keys: imported(LLAMAFACTORY, **{**GOOD, **keys})


def test_a_number_in_a_text_is_a_number(read: Read) -> None:
    assert read(learning_rate="5e-05").spec["optimizer"]["learning_rate"] == 5e-5


def test_lists_with_commas_are_split_and_stripped(read: Read) -> None:
    assert read(lora_target=" q_proj , v_proj").spec["lora"]["target_modules"] == ["q_proj", "v_proj"]


def test_alpha_is_twice_the_rank_and_said_so(read: Read) -> None:
    found = read(lora_rank=32)
    assert found.spec["lora"]["alpha"] == 64
    assert entry(found, "lora_alpha").kind is Kind.DEFAULTED


@pytest.mark.parametrize(("key", "length"), [("packing", 1023), ("mask_history", 1024)])
def test_packing_takes_one_token_off(read: Read, key: str, length: int) -> None:
    assert read(cutoff_len=1024, **{key: True}).spec["data"]["max_length"] == length


def test_defaults_that_differ_are_written_with_both_values(read: Read) -> None:
    told = entry(read(), "learning_rate")
    assert (told.kind, told.new, "1e-4" in str(told.ours)) == (Kind.DEFAULTED, 5e-5, True)


def test_an_old_spelling_is_the_same_key(read: Read) -> None:
    found = read(evaluation_strategy="epoch", val_size=0.1)
    assert found.spec["evaluation"]["cadence"] == "epoch"
    assert entry(found, "evaluation_strategy").kind is Kind.MAPPED


def test_two_spellings_at_once_are_refused(read: Read) -> None:
    found = read(evaluation_strategy="epoch", eval_strategy="no", val_size=0.1)
    assert entry(found, "eval_strategy").kind is Kind.REFUSED


def test_a_warmup_below_one_is_a_share(read: Read) -> None:
    assert read(warmup_steps=0.1).spec["schedule"]["warmup_ratio"] == 0.1
    assert read(warmup_steps=20, warmup_ratio=0.1).spec["schedule"]["warmup_steps"] == 20


def test_devices_multiply_the_batch(read: Read) -> None:
    found = read(**{"$CUDA_VISIBLE_DEVICES": "0,1", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4})
    assert found.spec["batch"] == {"micro_batch": 2, "global_batch": 16}
    assert found.spec["resources"]["gpus"] == 2


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("answers", {"format": "alpaca"}),
        ("asked", {"format": "alpaca", "columns": {"instruction": "question", "output": "answer"}}),
        ("talks", {"format": "sharegpt"}),
        ("messages", {"format": "messages"}),
        ("answers_listed", {"format": "alpaca", "max_samples": 2}),
    ],
)
def test_a_data_set_becomes_a_source(read: Read, name: str, source: dict[str, Any]) -> None:
    found = read(dataset=name)
    assert found.faithful
    made = dict(found.spec["data"]["train"][0])
    assert made.pop("path").startswith("/")
    assert made == source


@pytest.mark.parametrize(("name", "format"), [("texts", "text"), ("book", None)])
def test_pretraining_reads_texts(read: Read, name: str, format: str | None) -> None:  # noqa: A002
    found = read(dataset=name, stage="pt")
    assert found.faithful
    assert found.spec["data"]["train"][0].get("format") == format


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("mutual", "history is left out there"),
        ("pairs", "two answers"),
        ("pictures", "pictures"),
        ("far", "not on this host"),
        ("nobody", "no data set"),
    ],
)
def test_a_data_set_that_cannot_be_read_the_same_is_refused(read: Read, name: str, why: str) -> None:
    assert any(why in each.text for each in read(dataset=name).of(Kind.REFUSED))


def test_without_dataset_info_nobody_knows_the_files(read: Read) -> None:
    [refusal] = read(dataset_dir="nowhere").of(Kind.REFUSED)
    assert "--dataset-info" in refusal.instead


@pytest.mark.parametrize(
    ("keys", "blamed"),
    [
        ({"val_size": 0.1, "eval_dataset": "answers"}, "val_size"),
        ({"val_size": 0.1, "dataset": None}, "val_size"),
        ({"interleave_probs": "0.5,0.5"}, "interleave_probs"),
        ({"interleave_probs": "0.5,0.5", "mix_strategy": "interleave_under"}, "interleave_probs"),
        ({"streaming": True, "max_samples": 5, "max_steps": 5}, "streaming"),
        ({"streaming": True, "val_size": 0.1, "max_steps": 5}, "streaming"),
        ({"streaming": True}, "streaming"),
        ({"mask_history": True, "train_on_prompt": True}, "mask_history"),
        ({"mask_history": True, "stage": "dpo", "dataset": "pairs"}, "mask_history"),
        ({"neat_packing": True, "stage": "pt"}, "neat_packing"),
        ({"predict_with_generate": True, "stage": "pt"}, "predict_with_generate"),
        ({"do_predict": True}, "do_predict"),
        ({"predict_with_generate": True, "deepspeed": "ds_z3.json"}, "predict_with_generate"),
        ({"compute_accuracy": True, "predict_with_generate": True}, "compute_accuracy"),
        ({"quantization_bit": 4, "finetuning_type": "full"}, "quantization_bit"),
        ({"quantization_bit": 4, "pissa_init": True}, "quantization_bit"),
        ({"quantization_bit": 4, "resize_vocab": True}, "quantization_bit"),
        ({"quantization_bit": 4, "adapter_name_or_path": "a,b"}, "quantization_bit"),
        ({"quantization_bit": 4, "adapter_name_or_path": "a", "create_new_adapter": True}, "create_new_adapter"),
        ({"fp8": True, "quantization_bit": 4}, "fp8"),
        ({"fp16": True}, "fp16"),
        ({"adapter_name_or_path": "a", "finetuning_type": "full"}, "adapter_name_or_path"),
        ({"use_galore": True}, "finetuning_type"),
        ({"use_galore": True, "use_badam": True, "finetuning_type": "full"}, "use_badam"),
        ({"use_apollo": True, "deepspeed": "z2.json", "finetuning_type": "full"}, "use_apollo"),
        ({"galore_layerwise": True, "$NPROC_PER_NODE": 2}, "galore_layerwise"),
        ({"use_dora": True, "finetuning_type": "full"}, "use_dora"),
        ({"use_rslora": True, "finetuning_type": "freeze"}, "use_rslora"),
        ({"loraplus_lr_ratio": 16, "finetuning_type": "full"}, "loraplus_lr_ratio"),
        ({"dpo_label_smoothing": 0.1, "pref_loss": "ipo", "stage": "dpo", "dataset": "pairs"}, "dpo_label_smoothing"),
        ({"stage": "ppo"}, "reward_model"),
        ({"stage": "rm", "load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"pure_bf16": True, "deepspeed": "ds_z3.json"}, "pure_bf16"),
        ({"use_unsloth": True, "deepspeed": "ds_z3.json"}, "use_unsloth"),
        ({"do_eval": True}, "do_eval"),
        ({"use_llama_pro": True, "finetuning_type": "full"}, "use_llama_pro"),
    ],
)
def test_what_the_tool_refuses_is_refused(read: Read, keys: dict[str, Any], blamed: str) -> None:
    assert blamed in {each.key for each in read(**keys).of(Kind.REFUSED)}


def test_only_the_good_file_is_not_refused(read: Read) -> None:
    assert read().faithful
