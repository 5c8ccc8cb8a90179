"""The defaults, as training.proto tells them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ftd.datasets import Columns, Data, DataSource, Format, LongRows, Mixing, Thinking
from ftd.methods import Freeze, Full, Lora, LoraBias, LoraInit, Method, Qlora, QuantType
from ftd.models import ModelInfo
from ftd.resolve import resolve
from ftd.spec import (
    Attention,
    Batch,
    Cadence,
    Checkpoints,
    Compute,
    DeviceKind,
    Dtype,
    Evaluation,
    JobSpec,
    Model,
    Optimizer,
    Output,
    OutputWeights,
    Resources,
    Schedule,
    Sharding,
    Sharing,
    TrainingSpec,
)
from ftd.stages import (
    Cpo,
    CpoLoss,
    Dpo,
    DpoLoss,
    Kto,
    Orpo,
    Pretrain,
    Reward,
    Sft,
    SftLoss,
    Stage,
    TrainOn,
    WeightedDpoLoss,
)
from ftd.validate import check

GPU, CPU = DeviceKind.GPU, DeviceKind.CPU
SHARE = Sharing.SHARE
SPEC = TrainingSpec(model=Model(path="/m"), data=Data(train=(DataSource("/d/a.jsonl"),)))
LORA = Lora(
    rank=8,
    alpha=16.0,
    dropout=0.0,
    target_modules=("all-linear",),
    modules_to_save=(),
    rslora=False,
    dora=False,
    init=LoraInit.DEFAULT,
    bias=LoraBias.NONE,
)
INFO = ModelInfo({"num_hidden_layers": 4, "max_position_embeddings": 8192}, has_chat_template=True)


def resolved(device: DeviceKind = GPU, model: ModelInfo | None = INFO, **changes: object) -> TrainingSpec:
    return resolve(replace(SPEC, **changes), device, model)  # type: ignore[arg-type]


def test_every_default_of_the_smallest_spec_on_a_gpu() -> None:
    assert resolved() == TrainingSpec(
        model=Model(path="/m", dtype=Dtype.BF16, attention=Attention.SDPA),
        data=Data(
            train=(DataSource("/d/a.jsonl", weight=1.0, eval_split=0.0),),
            eval_split=0.0,
            max_length=2048,
            long_rows=LongRows.TRUNCATE,
            packing=False,
            mixing=Mixing.CONCAT,
            strict=False,
            thinking=Thinking.TEMPLATE,
        ),
        optimizer=Optimizer("adamw_torch_fused", 1e-4, 0.0, 0.9, 0.999, 1e-8, 1.0),
        schedule=Schedule(epochs=3.0, name="cosine", warmup_ratio=0.03),
        batch=Batch(micro_batch=1, global_batch=8, group_by_length=False),
        compute=Compute(precision=Dtype.BF16, gradient_checkpointing=True, padding_free=True),
        evaluation=Evaluation(cadence=Cadence.NEVER),
        checkpoints=Checkpoints(cadence=Cadence.EPOCH, keep=2),
        output=Output(weights=OutputWeights.LAST, merge=False),
        stage=Sft(loss=SftLoss.NLL, train_on=TrainOn.ASSISTANT, train_on_thinking=True),
        method=LORA,
        resources=Resources(device=GPU, gpus=1, sharing=SHARE),
        seed=42,
    )


def test_a_cpu_computes_in_fp32_and_keeps_activations() -> None:
    made = resolved(CPU)
    assert made.model.dtype is Dtype.FP32
    assert made.compute == Compute(precision=Dtype.FP32, gradient_checkpointing=False, padding_free=True)
    assert made.resources == Resources(device=CPU, sharing=SHARE)


@pytest.mark.parametrize("method", [Full(), Freeze()])
def test_weights_trained_whole_are_fp32(method: Method) -> None:
    made = resolved(method=method)
    assert made.model.dtype is Dtype.FP32
    assert made.compute.precision is Dtype.BF16


@pytest.mark.parametrize(
    ("stage", "method", "rate"),
    [
        (Sft(), Lora(), 1e-4),
        (Pretrain(), Qlora(), 1e-4),
        (Sft(), Full(), 1e-5),
        (Pretrain(), Freeze(), 1e-5),
        (Dpo(), Lora(), 5e-6),
        (Dpo(), Full(), 5e-6),
        (Reward(), Lora(), 1e-4),
        (Reward(), Full(), 1e-5),
        (Kto(), Lora(), 5e-6),
        (Orpo(), Full(), 5e-6),
        (Cpo(), Lora(), 5e-6),
    ],
)
def test_the_rate_fits_the_stage_and_the_method(stage: Stage, method: Method, rate: float) -> None:
    assert resolved(stage=stage, method=method).optimizer.learning_rate == rate


def test_qlora_has_the_same_adapter_without_dora() -> None:
    expected = Qlora(
        lora=replace(LORA, dora=None), quant_type=QuantType.NF4, double_quant=True, compute_dtype=Dtype.BF16
    )
    assert resolved(method=Qlora()).method == expected
    assert resolved(method=Qlora(lora=Lora(dora=False))).method == expected


def test_alpha_is_twice_the_rank_that_is_given() -> None:
    made = resolved(method=Lora(rank=32)).method
    assert isinstance(made, Lora)
    assert made.alpha == 64.0


def test_freeze_trains_two_layers_or_what_there_is() -> None:
    assert resolved(method=Freeze()).method == Freeze(trainable_layers=2)
    one = ModelInfo({"num_hidden_layers": 1}, has_chat_template=True)
    assert resolved(model=one, method=Freeze()).method == Freeze(trainable_layers=1)


def test_rows_are_no_longer_than_the_model_reads() -> None:
    short = ModelInfo({"n_positions": 1024}, has_chat_template=True)
    assert resolved(model=short).data.max_length == 1024
    assert resolved(model=None).data.max_length == 2048


def test_dpo_has_its_own_fields_and_no_packing() -> None:
    made = resolved(stage=Dpo(), data=replace(SPEC.data, packing=False))
    assert made.stage == Dpo(beta=0.1, loss=DpoLoss.SIGMOID, ld_alpha=1.0)
    assert made.data.packing is None


SMOOTHED = {DpoLoss.ROBUST: 0.0, DpoLoss.EXO_PAIR: 0.001, DpoLoss.AOT: 0.0, DpoLoss.AOT_UNPAIRED: 0.0}


@pytest.mark.parametrize("loss", list(DpoLoss))
def test_label_smoothing_is_set_where_the_loss_has_it(loss: DpoLoss) -> None:
    made = resolved(stage=Dpo(loss=loss)).stage
    assert made == Dpo(beta=0.1, loss=loss, label_smoothing=SMOOTHED.get(loss), ld_alpha=1.0)


def test_of_several_losses_each_has_a_weight() -> None:
    several = (WeightedDpoLoss(DpoLoss.SIGMOID), WeightedDpoLoss(DpoLoss.SFT, 0.2))
    made = resolved(stage=Dpo(losses=several)).stage
    assert made == Dpo(beta=0.1, losses=(WeightedDpoLoss(DpoLoss.SIGMOID, 1.0), several[1]), ld_alpha=1.0)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Reward(), Reward(center_coefficient=0.0)),
        (Kto(desirable_weight=2.0), Kto(beta=0.1, desirable_weight=2.0, undesirable_weight=1.0)),
        (Orpo(), Orpo(beta=0.1)),
        (Cpo(), Cpo(beta=0.1, loss=CpoLoss.SIGMOID, label_smoothing=0.0, nll_weight=1.0)),
        (Cpo(loss=CpoLoss.IPO), Cpo(beta=0.1, loss=CpoLoss.IPO, nll_weight=1.0)),
        (
            Cpo(loss=CpoLoss.SIMPO),
            Cpo(beta=0.1, loss=CpoLoss.SIMPO, label_smoothing=0.0, nll_weight=0.0, gamma=0.5),
        ),
    ],
)
def test_each_stage_of_preferences_has_its_own_fields_and_no_packing(stage: Stage, expected: Stage) -> None:
    made = resolved(stage=stage)
    assert made.stage == expected
    assert made.data.packing is None


def test_kto_needs_two_rows_to_compare() -> None:
    assert resolved(stage=Kto()).batch == Batch(micro_batch=2, global_batch=16)


def test_pretrain_packs() -> None:
    assert resolved(stage=Pretrain()).data.packing is True
    assert resolved(stage=Pretrain(), data=replace(SPEC.data, packing=False)).data.packing is False


def test_max_steps_takes_the_place_of_epochs() -> None:
    made = resolved(schedule=Schedule(max_steps=10)).schedule
    assert made == Schedule(max_steps=10, name="cosine", warmup_ratio=0.03)


def test_warmup_steps_take_the_place_of_the_ratio() -> None:
    assert resolved(schedule=Schedule(warmup_steps=0)).schedule == Schedule(epochs=3.0, name="cosine", warmup_steps=0)


def test_a_constant_schedule_has_no_warmup() -> None:
    made = resolved(schedule=Schedule(name="constant", warmup_ratio=0.0)).schedule
    assert made == Schedule(epochs=3.0, name="constant")


@pytest.mark.parametrize("name", ["sgd", "adafactor"])
def test_optimizers_without_averages_have_no_betas(name: str) -> None:
    made = resolved(optimizer=Optimizer(name=name)).optimizer
    momentum = 0.0 if name == "sgd" else None
    assert made == Optimizer(name, learning_rate=1e-4, weight_decay=0.0, max_grad_norm=1.0, momentum=momentum)


def test_the_global_batch_grows_with_devices_and_micro_batch() -> None:
    made = resolved(batch=Batch(micro_batch=3), resources=Resources(gpus=2))
    assert made.batch == Batch(micro_batch=3, global_batch=48, group_by_length=False)
    assert made.resources == Resources(device=GPU, gpus=2, sharing=SHARE, sharding=Sharding.NO_SHARD)


def test_evaluation_data_is_evaluated_each_epoch() -> None:
    data = replace(SPEC.data, eval=(DataSource("/d/e.txt"),), eval_split=0.0)
    made = resolved(data=data, batch=Batch(micro_batch=4))
    loss = Evaluation(cadence=Cadence.EPOCH, micro_batch=4, metric="loss", higher_is_better=False)
    assert made.evaluation == loss
    assert made.checkpoints.keep_best is False
    assert made.data.eval_split is None
    assert made.data.eval == (DataSource("/d/e.txt", format=Format.TEXT, weight=1.0),)
    held_back = resolved(data=replace(SPEC.data, eval_split=0.1))
    assert held_back.evaluation == replace(loss, micro_batch=1)


def test_a_metric_says_what_is_better_and_the_best_output_needs_its_checkpoint() -> None:
    data = replace(SPEC.data, eval_split=0.1)
    best = Output(weights=OutputWeights.BEST)
    made = resolved(data=data, evaluation=Evaluation(metric="mean_token_accuracy", patience=2), output=best)
    assert (made.evaluation.higher_is_better, made.evaluation.min_delta) == (True, 0.0)
    assert made.checkpoints.keep_best is True


def test_no_evaluation_has_no_batch() -> None:
    data = replace(SPEC.data, eval_split=0.1)
    assert resolved(data=data, evaluation=Evaluation(cadence=Cadence.NEVER)).evaluation == Evaluation(
        cadence=Cadence.NEVER
    )


def test_what_is_given_stays_even_if_it_is_zero() -> None:
    given = TrainingSpec(
        model=Model(hub_id="a/b", revision="v1", dtype=Dtype.FP16, attention=Attention.EAGER),
        data=Data(
            train=(DataSource("/a.csv", Format.ALPACA, Columns(input="q"), 0.5, 10, eval_split=0.2),),
            eval_split=0.0,
            chat_template_path="/t.jinja",
            max_length=64,
            long_rows=LongRows.DROP,
            packing=True,
            mixing=Mixing.INTERLEAVE_UNDER,
            strict=True,
            thinking=Thinking.KEEP,
        ),
        optimizer=Optimizer("adamw_torch", 0.5, 0.1, 0.0, 0.0, 1e-6, 0.0),
        schedule=Schedule(epochs=0.5, name="linear", warmup_steps=0),
        batch=Batch(micro_batch=2, global_batch=4, group_by_length=False),
        compute=Compute(precision=Dtype.FP16, gradient_checkpointing=False, padding_free=False),
        evaluation=Evaluation(cadence=Cadence.NEVER),
        checkpoints=Checkpoints(cadence=Cadence.STEPS, every_steps=3, keep=1),
        output=Output(path="/out", weights=OutputWeights.LAST, merge=False),
        stage=Sft(loss=SftLoss.NLL, train_on=TrainOn.ALL),
        method=Lora(4, 1.0, 0.5, ("q",), ("head",), rslora=True, dora=True, init=LoraInit.GAUSSIAN, bias=LoraBias.ALL),
        resources=Resources(
            device=GPU,
            gpus=2,
            memory_bytes=10,
            gpu_uuids=("a", "b"),
            sharing=Sharing.EXCLUSIVE,
            sharding=Sharding.FULL_SHARD,
        ),
        seed=0,
    )
    assert resolve(given, GPU, None) == given


@pytest.mark.parametrize("device", list(DeviceKind))
@pytest.mark.parametrize(
    "stage", [None, Sft(), Pretrain(), Dpo(), Dpo(loss=DpoLoss.IPO), Reward(), Kto(), Orpo(), Cpo()]
)
@pytest.mark.parametrize("method", [None, Lora(), Qlora(), Full(), Freeze()])
def test_a_resolved_spec_is_valid_and_final(device: DeviceKind, stage: Stage | None, method: Method | None) -> None:
    once = resolved(device, stage=stage, method=method)
    assert check(JobSpec(training=once), device) == []
    assert resolve(once, device, INFO) == once


@pytest.mark.parametrize(
    ("config", "padding_free"),
    [
        ({"model_type": "llama"}, True),
        ({"model_type": "gemma3_text", "layer_types": ["sliding_attention", "full_attention"]}, True),
        ({"model_type": "gemma2"}, False),
        ({"model_type": "falcon"}, False),
        ({"model_type": "llama", "layer_types": ["full_attention", "linear_attention"]}, False),
    ],
)
def test_rows_are_padded_only_for_models_that_need_it_and_then_by_length(
    config: dict[str, Any], padding_free: bool
) -> None:
    model = ModelInfo(config, has_chat_template=True)
    made = resolve(TrainingSpec(batch=Batch(micro_batch=4)), GPU, model)
    assert made.compute.padding_free is padding_free
    assert made.batch.group_by_length is not padding_free
    alone = resolve(TrainingSpec(batch=Batch(micro_batch=1)), GPU, model)
    assert alone.batch.group_by_length is False
    assert not resolve(TrainingSpec(compute=Compute(neftune_noise_alpha=5.0)), GPU, model).compute.padding_free
