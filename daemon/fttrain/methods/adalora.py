"""AdaLoRA: low-rank adapters whose ranks are given to the modules that need them, and what that asks of the loop."""

from __future__ import annotations

from typing import Any

import torch
from peft import AdaLoraConfig
from transformers import TrainerCallback

from finetuned.v1 import adapters_pb2, event_pb2, training_pb2
from fttrain.failure import Refused
from fttrain.methods.parts import Method, modules

# Until the loop knows how many updates there are.
_MANY = 2**31


class Adalora(Method):
    """Low-rank adapters of the form A E B; the least important entries of E become 0 while it trains."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> AdaLoraConfig:
        """As the spec says."""
        adalora = spec.adalora
        return AdaLoraConfig(
            task_type="CAUSAL_LM",
            init_r=adalora.initial_rank,
            target_r=adalora.rank,
            lora_alpha=adalora.alpha,
            lora_dropout=adalora.dropout,
            target_modules=modules(adalora.target_modules),
            modules_to_save=list(adalora.modules_to_save) or None,
            tinit=adalora.initial_steps,
            tfinal=adalora.final_steps,
            deltaT=adalora.interval,
            orth_reg_weight=adalora.orthogonality,
            total_step=_MANY,
        )

    def settle(self, spec: training_pb2.TrainingSpec, trainer: Any) -> None:
        """Regularises before each update and gives ranks away after it."""
        trainer.add_callback(_Allocating(trainer.model, spec.adalora))


class _Allocating(TrainerCallback):  # type: ignore[misc]
    def __init__(self, model: Any, adalora: adapters_pb2.Adalora) -> None:
        self._model, self._weight = model, adalora.orthogonality
        self._fixed = adalora.initial_steps + adalora.final_steps
        self._matrices = [weight for name, weight in model.named_parameters() if "lora_A" in name or "lora_B" in name]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._fixed >= state.max_steps:
            raise Refused(
                event_pb2.FAILURE_CLASS_DATA_INVALID,
                f"there are {state.max_steps} updates, and adalora keeps its ranks for {self._fixed} of them",
                "set fewer adalora.initial_steps and adalora.final_steps, or train longer",
            )
        self._model.base_model.rankallocator.set_total_step(state.max_steps)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # PEFT adds the regulariser to a loss of the model's own, and TRL computes losses itself. So its gradient is
        # added: once an update, the same on every rank.
        if not self._weight:
            return
        with torch.enable_grad():
            distances = [_from_orthogonal(weight) for weight in self._matrices]
            gradients = torch.autograd.grad(self._weight * torch.stack(distances).mean(), self._matrices)
        for weight, gradient in zip(self._matrices, gradients, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Its gradients are needed, and are still there.
        self._model.base_model.update_and_allocate(state.global_step + 1)


def _from_orthogonal(weight: torch.Tensor) -> torch.Tensor:
    """How far the rows, or columns if those are fewer, are from an orthogonal set."""
    covariance = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
    identity = torch.eye(len(covariance), device=weight.device, dtype=weight.dtype)
    distance: torch.Tensor = torch.linalg.matrix_norm(covariance - identity)
    return distance
