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
        ("answers_listed", {"format": "alpaca", "num_samples": 2}),
        ("mutual", {"format": "alpaca", "columns": {"only": True}}),
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
        ({"quantization_bit": 4, "adapter_name_or_path": "nobodys-a,nobodys-b"}, "quantization_bit"),
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


@pytest.mark.parametrize(
    ("keys", "path", "value"),
    [
        ({"loraplus_lr_ratio": 16}, "lora.loraplus_lr_ratio", 16),
        ({"pissa_init": True}, "lora.init", "pissa"),
        ({"pissa_init": True}, "lora.pissa_iterations", 16),
        ({"quantization_bit": 8}, "qlora.quant_type", "int8"),
        ({"neftune_noise_alpha": 5}, "compute.neftune_noise_alpha", 5),
        ({"use_dft_loss": True}, "sft.loss", "dft"),
        ({"optim": "lion_8bit"}, "optimizer.name", "lion_8bit"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "schedule.name", "warmup_stable_decay"),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}, "learning_rate": 1e-5},
            "schedule.min_lr_ratio",
            pytest.approx(0.1),
        ),
        ({"finetuning_type": "freeze", "freeze_trainable_layers": -2}, "freeze.trainable_layers", -2),
        ({"finetuning_type": "freeze", "freeze_trainable_modules": "mlp"}, "freeze.modules", ["mlp"]),
        ({"finetuning_type": "freeze", "freeze_extra_modules": "norm"}, "freeze.extra_modules", ["norm"]),
        ({"finetuning_type": "oft", "oft_block_size": 16}, "oft.block_size", 16),
        ({"finetuning_type": "full", "use_galore": True, "galore_rank": 8}, "optimizer.projection_rank", 8),
        ({"finetuning_type": "full", "use_apollo": True}, "optimizer.projection_scale", 32.0),
        ({"template": "vicuna"}, "data.template", "vicuna"),
        ({"default_system": "Be brief."}, "data.default_system", "Be brief."),
        ({"enable_thinking": False}, "data.enable_thinking", False),
        ({"mix_strategy": "interleave_over", "dataset": "answers,talks"}, "data.mixing", "interleave_over"),
        ({"early_stopping_steps": 3, "val_size": 0.1, "eval_strategy": "epoch"}, "evaluation.patience", 3),
        ({"load_best_model_at_end": True, "val_size": 0.1, "eval_strategy": "epoch"}, "output.weights", "best"),
        ({"save_strategy": "best", "val_size": 0.1, "eval_strategy": "epoch"}, "checkpoints.keep_best", True),
        ({"adapter_name_or_path": "nobodys-a"}, "lora.continue_from", {"path": "nobodys-a"}),
        (
            {"adapter_name_or_path": "nobodys-a,nobodys-b", "create_new_adapter": True},
            "model.adapters",
            [{"path": "nobodys-a"}, {"path": "nobodys-b"}],
        ),
        ({"adapter_name_or_path": "b", "adapter_folder": "saves"}, "lora.continue_from", {"path": "saves/b"}),
        ({"stage": "dpo", "dataset": "pairs", "ref_model": "m"}, "dpo.reference", {"path": "m"}),
        (
            {"stage": "dpo", "dataset": "pairs", "ref_model": "m", "ref_model_adapters": "nobodys-a"},
            "dpo.reference",
            {"path": "nobodys-a"},
        ),
    ],
)
def test_a_key_goes_to_its_field(read: Read, keys: dict[str, Any], path: str, value: Any) -> None:
    found = read(**keys)
    assert found.faithful, found.of(Kind.REFUSED)
    node: Any = found.spec
    for part in path.split("."):
        node = node[part]
    assert node == value


def test_interleaved_sets_have_their_weights(read: Read) -> None:
    found = read(dataset="answers,talks", mix_strategy="interleave_under", interleave_probs="0.7, 0.3")
    assert [source["weight"] for source in found.spec["data"]["train"]] == [0.7, 0.3]


def test_an_adapter_that_is_trained_on_keeps_its_shape(read: Read) -> None:
    found = read(adapter_name_or_path="nobodys-a,nobodys-b", lora_rank=64, lora_dropout=0.1)
    assert found.spec["lora"] == {"continue_from": {"path": "nobodys-b"}, "dropout": 0.1}
    assert found.spec["model"]["adapters"] == [{"path": "nobodys-a"}]


def test_speakers_by_other_names_are_named(read: Read) -> None:
    found = read(dataset="strangers")
    assert found.faithful
    assert found.spec["data"]["train"][0]["speakers"] == {"user": "Q", "assistant": "A"}


@pytest.mark.parametrize("key", ["early_stopping_steps", "load_best_model_at_end"])
def test_the_best_of_nothing_is_refused(read: Read, key: str) -> None:
    assert "nothing is evaluated" in entry(read(**{key: 1}), key).text


def test_what_an_optimizer_takes_says_nothing_without_it(read: Read) -> None:
    found = read(galore_layerwise=True, apollo_scale_type="tensor", apollo_rank=4)
    assert found.faithful
    assert "optimizer" not in found.spec or "projection_rank" not in found.spec["optimizer"]


@pytest.mark.parametrize(("key", "value"), [("apollo_scale_type", "tensor"), ("apollo_proj", "svd")])
def test_another_apollo_is_refused(read: Read, key: str, value: str) -> None:
    found = read(finetuning_type="full", use_apollo=True, **{key: value})
    assert [each.key for each in found.of(Kind.REFUSED)] == [key]
