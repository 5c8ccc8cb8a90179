"""From a resolved spec to an estimate: every choice that costs memory arrives in the arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftd.datasets import Data, DataSource
from ftd.memory import estimate, fixes
from ftd.methods import Freeze, Full, Lora, Qlora
from ftd.records import MemoryTerm
from ftd.resolve import resolve
from ftd.spec import (
    Attention,
    Batch,
    Compute,
    DeviceKind,
    Dtype,
    Evaluation,
    Generation,
    GgufType,
    Model,
    Optimizer,
    Output,
    Resources,
    TrainingSpec,
)
from ftd.stages import Cpo, Dpo, Kto, Orpo, Pretrain, Reward
from ftd.weights import Weights
from ftsched.shapes import NotAModel, shape_of

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
SPEC = TrainingSpec(model=Model(path="/m"), data=Data(train=(DataSource("/d.jsonl"),)))
GIB = 2**30


def resolved(device: DeviceKind = DeviceKind.GPU, **more: object) -> TrainingSpec:
    return resolve(replace(SPEC, **more), device, None)  # type: ignore[arg-type]


def reserve(device: DeviceKind = DeviceKind.GPU, **more: object) -> int:
    return estimate(resolved(device, **more), LLAMA, 2048).reserve_bytes


def test_the_defaults_of_each_method() -> None:
    """16-bit weights of 15 GiB under an adapter, 4-bit ones of 5.2 GiB, or 18 bytes a parameter with copies."""
    sizes = {type(method).__name__: reserve(method=method) / GIB for method in (Qlora(), Lora(), Freeze(), Full())}
    assert 6 < sizes["Qlora"] < 10
    assert 17 < sizes["Lora"] < 20
    assert 35 < sizes["Freeze"] < 45
    assert 130 < sizes["Full"] < 150


@pytest.mark.parametrize(
    "more",
    [
        {"stage": Dpo()},
        {"stage": Kto()},
        {"stage": Orpo()},
        {"stage": Cpo()},
        {"method": Lora(rank=512)},
        {"method": Lora(modules_to_save=("lm_head",))},
        {"method": Lora(dora=True), "compute": Compute(gradient_checkpointing=False)},
        {"model": Model(path="/m", dtype=Dtype.FP32)},
        {"batch": Batch(micro_batch=4)},
        {"resources": Resources(gpus=2)},
        {"compute": Compute(gradient_checkpointing=False)},
        {"data": Data(eval_split=0.1), "evaluation": Evaluation(micro_batch=64)},
    ],
    ids=lambda more: ", ".join(more),
)
def test_what_costs_memory_is_estimated_higher(more: dict[str, object]) -> None:
    assert reserve(**more) > reserve()


def test_what_saves_memory_is_estimated_lower() -> None:
    full = {"method": Full(), "stage": Pretrain()}
    assert reserve(**full, optimizer=Optimizer(name="adamw_8bit")) < reserve(**full)
    assert reserve(method=Lora(target_modules=("q_proj",), rank=512)) < reserve(method=Lora(rank=512))
    quantised_twice, once = (Qlora(double_quant=twice) for twice in (True, False))
    assert reserve(method=quantised_twice) < reserve(method=once)


def test_all_logits_at_once_cost_more_than_a_head_of_one_number() -> None:
    pairs = {"batch": Batch(micro_batch=4)}
    assert reserve(stage=Reward(), **pairs) < reserve(stage=Dpo(), **pairs) < reserve(stage=Orpo(), **pairs)


def test_padding_and_packing_cost_the_fast_attention() -> None:
    slow = {"compute": Compute(gradient_checkpointing=False, padding_free=False)}
    packed = Data(packing=True, train=SPEC.data.train)
    assert reserve(**slow, data=packed) > reserve(**slow)
    flash = Model(path="/m", attention=Attention.FLASH_ATTENTION_2)
    assert reserve(**slow, data=packed, model=flash) == reserve(**slow, model=flash)


def test_what_a_preference_compares_with_is_counted_once() -> None:
    def terms(beside: int, **more: object) -> dict[str, int]:
        found = estimate(resolved(stage=Dpo(**more.pop("dpo", {})), **more), LLAMA, 2048, beside=beside)  # type: ignore[arg-type]
        return {term.name: term.bytes for term in found.terms}

    given = Weights(path="/reference")
    new, old = terms(0, method=Lora(rank=64)), terms(0, method=Lora(rank=64, continue_from=Weights(path="/a")))
    assert "reference adapter" not in new
    assert old["reference adapter"] == old["adapters"] == new["adapters"]
    other = terms(8 * 10**9, method=Lora(continue_from=Weights(path="/a")), dpo={"reference": given})
    assert other["other models"] == 16 * 10**9
    assert "reference adapter" not in other
    whole = terms(8 * 10**9, method=Full(), dpo={"reference": given})
    assert whole["reference model"] > 0
    assert "other models" not in whole


def test_a_cpu_computes_in_fp32() -> None:
    small = {**LLAMA, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "vocab_size": 49152}
    on_cpu = estimate(resolved(DeviceKind.CPU), small, 256)
    weights = next(term for term in on_cpu.terms if term.name == "weights")
    on_gpu = estimate(resolved(), small, 256)
    assert weights.bytes == 2 * next(term.bytes for term in on_gpu.terms if term.name == "weights")


def test_memory_that_is_given_is_taken_as_it_is() -> None:
    found = estimate(resolved(resources=Resources(memory_bytes=7 * GIB)), {}, 2048)
    assert found.reserve_bytes == 7 * GIB
    assert found.terms == (MemoryTerm("given in the spec", 7 * GIB),)
    assert found.basis == "given in the spec"


def test_what_would_make_it_fit_is_said_in_fields_of_the_spec() -> None:
    kept = Compute(gradient_checkpointing=False)
    limit = reserve(batch=Batch(micro_batch=2), compute=kept) + GIB
    found = fixes(resolved(batch=Batch(micro_batch=8), compute=kept), LLAMA, 2048, limit)
    assert [(one.field, one.value) for one in found[0].settings] == [("batch.micro_batch", "2")]
    assert all(fix.estimate.reserve_bytes <= limit for fix in found)
    assert fixes(resolved(resources=Resources(memory_bytes=7 * GIB)), LLAMA, 2048, GIB) == ()


def test_parameters_that_were_counted_narrow_the_estimate_of_an_unknown_model() -> None:
    novel = {**LLAMA, "model_type": "novel"}
    assert estimate(resolved(), novel, 2048, 8_030_261_248).uncertainty < estimate(resolved(), novel, 2048).uncertainty


def test_the_estimate_says_what_it_rests_on() -> None:
    found = estimate(resolved(), LLAMA, 777)
    assert found.basis == "arithmetic for llama"
    assert found.sequence_length == 777
    assert found.peak_moment == "layer"
    assert sum(term.bytes for term in found.terms) == found.reserve_bytes


def test_a_config_without_the_basics_is_an_error() -> None:
    with pytest.raises(NotAModel, match=r"config\.json has no hidden_size or n_embd"):
        estimate(resolved(), {"model_type": "llama"}, 2048)


def test_a_whole_model_of_4_bit_weights_is_made_in_the_hosts_memory() -> None:
    """Weights that are in the output's format already are merged where they are."""
    merged = Output(merge=True, dtype=Dtype.BF16, gguf=(GgufType.Q8_0,))
    parameters = shape_of(LLAMA).parameters
    for method, copied in ((Qlora(), 2), (Lora(), 0)):
        plain, made = (estimate(resolved(method=method, output=each), LLAMA, 2048) for each in (Output(), merged))
        assert made.host_bytes - plain.host_bytes == copied * parameters
        assert made.disk_bytes - plain.disk_bytes == int((2 + 34 / 32) * parameters)
        assert made.reserve_bytes == plain.reserve_bytes


def test_on_a_cpu_the_making_of_a_whole_model_may_have_the_peak() -> None:
    found = estimate(resolved(DeviceKind.CPU, method=Qlora(), output=Output(merge=True)), LLAMA, 2048)
    assert found.peak_moment == "export"
    assert next(each.bytes for each in found.terms if each.name == "exported model") == 4 * shape_of(LLAMA).parameters


def test_answers_in_evaluations_cost_their_keys_and_values() -> None:
    """With large evaluation batches they have the peak: 32 layers of 8 heads of 128, in 16 bits, keys and values."""
    data = Data(train=(DataSource("/d.jsonl"),), eval_split=0.1)
    asked = Evaluation(micro_batch=64, generation=Generation(max_new_tokens=1024))
    found = estimate(resolved(data=data, evaluation=asked), LLAMA, 2048)
    assert found.peak_moment == "evaluation"
    kept = next(each.bytes for each in found.terms if each.name == "keys and values")
    assert kept == 64 * (2048 + 1024) * 32 * 2 * 8 * 128 * 2
