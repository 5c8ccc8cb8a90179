"""What a user asks for: frozen dataclasses that mirror the JobSpec and TrainingSpec messages field by field.

None means unset; `ftd.resolve` returns a copy in which nothing that applies is None. What each field means, its unit,
default and limits stand in proto/finetuned/v1/training.proto and job.proto. Nothing here checks anything; that is
`ftd.validate`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto

from ftd.datasets import Data
from ftd.methods import Dtype as Dtype
from ftd.methods import Method
from ftd.online import RewardKind
from ftd.stages import Stage
from ftd.trackers import Kind, Tracker
from ftd.weights import Resume, Weights


class Attention(StrEnum):
    """Attention kernel, named as transformers names them."""

    SDPA = auto()
    EAGER = auto()
    FLASH_ATTENTION_2 = auto()


class Decay(StrEnum):
    """How a learning rate falls."""

    COSINE = auto()
    LINEAR = auto()
    SQRT = auto()


class Cadence(StrEnum):
    """When something is done."""

    NEVER = auto()
    STEPS = auto()
    EPOCH = auto()


class OutputWeights(StrEnum):
    """Whose weights an output has."""

    LAST = auto()
    BEST = auto()


class GgufType(StrEnum):
    """Number format of the weights in a GGUF file."""

    F32 = auto()
    F16 = auto()
    BF16 = auto()
    Q8_0 = auto()


class DeviceKind(StrEnum):
    """Kind of device."""

    GPU = auto()
    CPU = auto()


class Sharing(StrEnum):
    """Who else may be on a job's devices."""

    SHARE = auto()
    EXCLUSIVE = auto()


class Sharding(StrEnum):
    """What several GPUs divide."""

    NO_SHARD = auto()
    SHARD_GRAD_OP = auto()
    FULL_SHARD = auto()


class DependencyCondition(StrEnum):
    """How the job before must have ended."""

    OK = auto()
    ANY = auto()


class Probe(StrEnum):
    """When a job is tried out before it trains."""

    AUTO = auto()
    ALWAYS = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True)
class Model:
    """The base model."""

    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    dtype: Dtype | None = None
    attention: Attention | None = None
    from_job: str | None = None
    adapters: tuple[Weights, ...] = ()
    checkpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Update rule."""

    name: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    max_grad_norm: float | None = None
    momentum: float | None = None
    projection_rank: int | None = None
    projection_interval: int | None = None
    projection_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train and how the learning rate moves."""

    epochs: float | None = None
    max_steps: int | None = None
    name: str | None = None
    warmup_ratio: float | None = None
    warmup_steps: int | None = None
    min_lr_ratio: float | None = None
    restarts: int | None = None
    power: float | None = None
    decay_ratio: float | None = None
    decay: Decay | None = None
    plateau_factor: float | None = None
    plateau_patience: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch sizes, in sequences or pairs."""

    micro_batch: int | None = None
    global_batch: int | None = None
    group_by_length: bool | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """Number formats and the trade of time for memory."""

    precision: Dtype | None = None
    gradient_checkpointing: bool | None = None
    neftune_noise_alpha: float | None = None
    padding_free: bool | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """Answers that are written in evaluations."""

    max_rows: int | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """When to evaluate."""

    cadence: Cadence | None = None
    every_steps: int | None = None
    micro_batch: int | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    patience: int | None = None
    min_delta: float | None = None
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """When to save."""

    cadence: Cadence | None = None
    every_steps: int | None = None
    keep: int | None = None
    keep_best: bool | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """Where on a model hub an output goes."""

    repository: str | None = None
    private: bool | None = None
    token_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What is left when the job has succeeded."""

    path: str | None = None
    weights: OutputWeights | None = None
    merge: bool | None = None
    dtype: Dtype | None = None
    max_shard_bytes: int | None = None
    gguf: tuple[GgufType, ...] = ()
    ollama: bool | None = None
    push: Push | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Devices and memory."""

    device: DeviceKind | None = None
    gpus: int | None = None
    memory_bytes: int | None = None
    gpu_uuids: tuple[str, ...] = ()
    sharing: Sharing | None = None
    sharding: Sharding | None = None


# The members of oneofs.
Choice = Stage | Method | Kind | RewardKind


def choice_name(choice: Choice) -> str:
    """The field of the oneof that holds it, as people write it: "sft", "qlora", "exact_answer"."""
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(choice).__name__).lower()


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train, on what, how and where. `stage` and `method` are the message's oneofs."""

    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    batch: Batch = field(default_factory=Batch)
    compute: Compute = field(default_factory=Compute)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    output: Output = field(default_factory=Output)
    stage: Stage | None = None
    method: Method | None = None
    resources: Resources = field(default_factory=Resources)
    seed: int | None = None
    resume: Resume | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that must have ended first."""

    job: str = ""
    condition: DependencyCondition | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A training and what the queue should know about it."""

    name: str | None = None
    project: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    external_id: str | None = None
    priority: int | None = None
    max_retries: int | None = None
    hold: bool | None = None
    training: TrainingSpec = field(default_factory=TrainingSpec)
    after: tuple[Dependency, ...] = ()
    not_before: float | None = None
    deadline: float | None = None
    probe: Probe | None = None
    preemptible: bool | None = None
    trackers: tuple[Tracker, ...] = ()
