"""One of two gloo ranks that divide a model by accelerate's own FSDP2 wrapping, with the settings of a spec.

Run as `halves.py MODEL METHOD OUTPUT`. It fails unless the rank holds half of the weights, two updates have the losses
of an undivided model, and the weights that are put together again are those of the undivided one; rank 0 saves them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft import LoraConfig, get_peft_model
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, TrainingArguments

from finetuned.v1 import training_pb2
from fttrain import sharding

UPDATES = 2


def build(path: str, method: str) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", init_lora_weights="gaussian"))
    return model.train()


def divide(model: Any) -> Any:
    """As the trainer does on GPUs, of which there are none."""
    spec = training_pb2.TrainingSpec()
    spec.resources.sharding = training_pb2.SHARDING_FULL_SHARD
    given = {name: value for name, value in sharding.arguments(spec).items() if name.startswith("fsdp")}
    arguments = TrainingArguments(output_dir="/nowhere", use_cpu=True, **given)
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    accelerator: Any = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        torch_device_mesh=None,
        mixed_precision="no",
        is_main_process=True,
        device=torch.device("cpu"),
    )
    return fsdp2_prepare_model(accelerator, model)


def update(model: Any, batches: list[Any]) -> list[float]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(UPDATES):
        for ids in batches:
            loss = model(input_ids=ids, labels=ids).loss
            (loss / len(batches)).backward()
            losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return losses


def main(path: str, method: str, output: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    batches = [torch.randint(0, 4000, (1, 24), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]

    whole = build(path, method)
    expected = update(whole, batches)
    model = divide(build(path, method))
    parts = [p for p in model.parameters() if isinstance(p, DTensor)]
    assert len(parts) == len(list(model.parameters())), "a parameter is not divided"
    held = sum(p.to_local().numel() for p in parts)
    assert held <= 0.55 * sum(p.numel() for p in parts), "more than half is held"

    # Each rank computes one of the two rows; their gradients are averaged.
    losses = update(model, [batches[rank]])
    torch.testing.assert_close(losses, expected[rank::2], rtol=1e-4, atol=1e-5)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, cpu_offload=True)
    together = get_model_state_dict(model, options=options)
    if rank == 0:
        for name, weight in whole.state_dict().items():
            torch.testing.assert_close(together[name], weight, rtol=1e-4, atol=1e-5)
        model.save_pretrained(output, state_dict=together)
    torch.distributed.barrier()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
