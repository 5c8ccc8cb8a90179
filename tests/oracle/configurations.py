"""What is tried: a table of trainings over families, methods, stages, recomputation, loss, batch and length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from tests.oracle.shapes import SHAPES

from ftd import datasets, memory, spec, stages
from ftd.methods import Full, Lora, Qlora
from ftd.methods import Method as MethodSpec
from ftd.resolve import resolve
from ftsched.workload import Workload

Method = Literal["full", "lora", "qlora"]
Stage = Literal["sft", "pretrain", "reward", "dpo", "kto", "orpo", "cpo", "grpo"]
# Stages the daemon trains; the other one is resolved as if it were supervised.
OWN_STAGES: dict[str, stages.Stage] = {
    "sft": stages.Sft(),
    "pretrain": stages.Pretrain(),
    "dpo": stages.Dpo(),
    "kto": stages.Kto(),
    "reward": stages.Reward(),
    "orpo": stages.Orpo(),
    "cpo": stages.Cpo(),
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """One training. The loss "logits" is that of `transformers.Trainer`, which has all logits at once."""

    model: str
    method: Method
    stage: Stage = "sft"
    batch: int = 1
    length: int = 1024
    recompute: bool = True
    loss: Literal["tiled", "logits"] = "tiled"
    accumulation: int = 1
    dtype: spec.Dtype | None = None
    precision: spec.Dtype | None = None
    optimizer: str | None = None
    rank: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    padding_free: bool = True

    @property
    def name(self) -> str:
        """The five that always matter, and whatever else is not as usual."""
        usual = {each.name: each.default for each in fields(self)[5:]}
        unusual = [f"{name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return " ".join([self.model, self.method, self.stage, f"{self.batch}x{self.length}", *unusual])

    @property
    def is_ours(self) -> bool:
        """Whether the daemon trains it."""
        return self.stage in OWN_STAGES and self.loss == "tiled"

    @property
    def has_rows(self) -> bool:
        """Whether the model's attention can be told where rows end."""
        return self.config["model_type"] != "gemma2"

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        return SHAPES[self.model]

    def training(self) -> spec.TrainingSpec:
        """The spec as the daemon resolves it for one GPU."""
        asked = spec.TrainingSpec(
            model=spec.Model(path="/model", dtype=self.dtype),
            data=datasets.Data(train=(datasets.DataSource(path="/rows.jsonl"),), max_length=self.length, packing=False),
            optimizer=spec.Optimizer(name=self.optimizer),
            schedule=spec.Schedule(max_steps=2),
            batch=spec.Batch(self.batch, self.batch * self.accumulation),
            compute=spec.Compute(self.precision, self.recompute, self.is_ours and self.padding_free and self.has_rows),
            evaluation=spec.Evaluation(cadence=spec.Cadence.NEVER),
            checkpoints=spec.Checkpoints(cadence=spec.Cadence.NEVER),
            stage=OWN_STAGES.get(self.stage, stages.Sft()),
            method=self._method(),
        )
        return resolve(asked, spec.DeviceKind.GPU, None)

    def workload(self) -> Workload:
        """What the daemon tells the estimator of it."""
        work = memory.workload_of(self.training(), self.length)
        if self.is_ours:
            return work
        return replace(
            work,
            stage=self.stage,
            loss=self.loss,
            # transformers' Trainer drops the outputs before the backward pass, which keeps fp32 logits, their gradient
            # and what that is made of.
            logit_bytes=12 if self.loss == "logits" else 0,
            # TRL's GRPO compares with no reference unless it is asked to.
            reference=self.stage != "grpo",
        )

    def _method(self) -> MethodSpec:
        lora = Lora(rank=self.rank, dropout=self.dropout, target_modules=self.targets)
        methods: dict[str, MethodSpec] = {"full": Full(), "lora": lora, "qlora": Qlora(lora=lora)}
        return methods[self.method]


def _table() -> Iterator[Configuration]:
    each = Configuration
    # Every family under every method, two rows end to end; adapters without recomputation too.
    for model in SHAPES:
        yield each(model, "lora", batch=2)
        yield each(model, "lora", batch=2, recompute=False)
        yield each(model, "full", batch=2)
        yield each(model, "qlora", length=512)
    # One long row, as few large rows: no padding, other moments.
    for model in ("Llama-3-8B", "Qwen2.5-0.5B", "Qwen3-4B", "Gemma-3-1B", "Phi-3-mini", "Pythia-1B"):
        yield each(model, "lora", length=4096)
        yield each(model, "full", length=4096, recompute=False)
    # The stages; those of preferences have pairs in a batch.
    for model in ("Llama-3-8B", "Qwen2.5-0.5B"):
        for stage in ("reward", "dpo", "kto", "orpo", "cpo", "grpo"):
            yield each(model, "lora", stage, batch=2)
            yield each(model, "full", stage, batch=2)
        yield each(model, "qlora", "dpo", recompute=False)
        yield each(model, "qlora", "orpo")
        yield each(model, "lora", "pretrain", length=2048)
    # The classic loss.
    for model in ("Llama-3-8B", "Qwen2.5-0.5B", "Gemma-2B", "GPT-2"):
        yield each(model, "lora", loss="logits")
        yield each(model, "full", loss="logits", recompute=False)
    # What else a spec may say.
    yield each("Mistral-7B", "full", accumulation=2)
    yield each("Mistral-7B", "full", optimizer="adamw_torch")
    yield each("Mistral-7B", "full", optimizer="sgd")
    yield each("Mistral-7B", "full", dtype=spec.Dtype.BF16, batch=2, length=2048)
    yield each("Mistral-7B", "full", precision=spec.Dtype.FP32, length=2048)
    yield each("Mistral-7B", "lora", dtype=spec.Dtype.FP32, length=2048)
    yield each("Mistral-7B", "lora", accumulation=2, rank=64)
    yield each("Mistral-7B", "lora", dropout=0.1, recompute=False)
    yield each("Mistral-7B", "lora", targets=("q_proj", "v_proj"), length=2048)
    yield each("Mistral-7B", "qlora", dropout=0.05, length=2048)


TABLE = tuple(_table())
