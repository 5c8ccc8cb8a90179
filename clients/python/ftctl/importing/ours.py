"""What the daemon does where a spec says nothing, in the words of a report, by field.

Only fields whose default some tool does not share. A test holds it to the daemon; nothing is decided by it.
"""

from __future__ import annotations

OURS: dict[str, object] = {
    "model.dtype": "bf16 on a GPU, fp32 on a CPU; fp32 for full and freeze",
    "data.max_length": "2048, or the model's own limit if that is less",
    "data.long_rows": "truncate",
    "data.packing": "true for pretrain, else false",
    "data.chat_template_path": "the chat template of the model's tokenizer",
    "optimizer.learning_rate": "1e-4 for lora and qlora, 1e-5 for full and freeze; 5e-6 for dpo, kto, orpo and cpo",
    "optimizer.weight_decay": 0.0,
    "optimizer.beta2": 0.999,
    "schedule.name": "cosine",
    "schedule.epochs": 3.0,
    "schedule.warmup_ratio": 0.03,
    "schedule.warmup_steps": "a warmup_ratio of 0.03",
    "batch.micro_batch": 1,
    "batch.global_batch": "8 times batch.micro_batch and the devices",
    "compute.precision": "bf16 on a GPU, fp32 on a CPU",
    "compute.gradient_checkpointing": "true on a GPU, false on a CPU",
    "evaluation.cadence": "epoch, when there is evaluation data",
    "evaluation.every_steps": "none: each epoch",
    "evaluation.micro_batch": "batch.micro_batch",
    "checkpoints.cadence": "epoch",
    "checkpoints.every_steps": "none: each epoch",
    "checkpoints.keep": 2,
    "lora.alpha": "twice the rank",
    "lora.dropout": 0.0,
    "lora.pissa_iterations": "none: the exact decomposition",
    "optimizer.projection_rank": 128,
    "optimizer.projection_interval": 200,
    "optimizer.projection_scale": "0.25 for GaLore, 1 for APOLLO",
    "resources.gpus": 1,
    "full": "lora",
    "dpo": "sft",
    "ppo.beta": "0.05, and stays",
    "grpo.beta": 0.0,
    "ppo.sampling.max_completion_length": "256, or half of data.max_length",
    "grpo.sampling.max_completion_length": "256, or half of data.max_length",
    "ppo.sampling.temperature": 1.0,
    "ppo.sampling.top_p": 1.0,
    "ppo.sampling.top_k": "0: all",
    "grpo.sampling": "temperature 1, everything is drawn from",
    "cpo.beta": 0.1,
    "cpo.gamma": 0.5,
    "cpo.nll_weight": "1, for simpo 0",
}


def ours(field: str) -> object:
    """The default of a field; an adapter's is the same below qlora."""
    return OURS[field.removeprefix("qlora.")]
