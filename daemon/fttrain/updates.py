"""The optimizer and the schedule of the resolved spec as arguments of transformers. It must never decide anything."""

from __future__ import annotations

from typing import Any

from finetuned.v1 import training_pb2

PLATEAU = "reduce_lr_on_plateau"
_DECAYS = {
    training_pb2.DECAY_COSINE: "cosine",
    training_pb2.DECAY_LINEAR: "linear",
    training_pb2.DECAY_SQRT: "1-sqrt",
}


def optimizer(given: training_pb2.Optimizer) -> dict[str, Any]:
    """Name, rate and everything that the optimizer takes."""
    options = {}
    if given.HasField("momentum"):
        options["momentum"] = given.momentum
    projects = given.HasField("projection_rank")
    if projects:
        options |= {"rank": given.projection_rank, "update_proj_gap": given.projection_interval}
        options["scale"] = given.projection_scale
    if given.name == "adagrad" or given.name == "rmsprop":
        # These two and sgd take what the others are given by the trainer's own arguments.
        options["weight_decay"] = given.weight_decay
    return {
        "optim": given.name,
        "optim_args": ",".join(f"{name}={value!r}" for name, value in options.items()) or None,
        "optim_target_modules": "all-linear" if projects else None,
        "learning_rate": given.learning_rate,
        "weight_decay": given.weight_decay,
        "adam_beta1": given.beta1,
        "adam_beta2": given.beta2,
        "adam_epsilon": given.epsilon,
        "max_grad_norm": given.max_grad_norm,
    }


def schedule(spec: training_pb2.TrainingSpec) -> dict[str, Any]:
    """How long to train, and the schedule with what only it takes."""
    given = spec.schedule
    judged = {}
    options = _options(given)
    if given.name == PLATEAU:
        options["mode"] = "max" if spec.evaluation.higher_is_better else "min"
        judged = {
            "metric_for_best_model": spec.evaluation.metric,
            "greater_is_better": spec.evaluation.higher_is_better,
        }
    return {
        **judged,
        # transformers takes -1 for "the epochs decide", and reads a warmup below 1 as a share of all updates.
        "num_train_epochs": given.epochs if given.HasField("epochs") else 1.0,
        "max_steps": given.max_steps if given.HasField("max_steps") else -1,
        "lr_scheduler_type": given.name,
        "lr_scheduler_kwargs": options,
        "warmup_steps": given.warmup_steps if given.HasField("warmup_steps") else given.warmup_ratio,
    }


def once_known(given: training_pb2.Schedule, updates: int) -> dict[str, Any]:
    """What only the schedule takes and the number of updates decides."""
    if given.name != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": max(1, round(given.decay_ratio * updates))}


def _options(given: training_pb2.Schedule) -> dict[str, Any]:
    match given.name:
        case "cosine_with_min_lr" | "cosine_warmup_with_min_lr":
            return {"min_lr_rate": given.min_lr_ratio}
        case "cosine_with_restarts":
            return {"num_cycles": given.restarts}
        case "polynomial":
            return {"power": given.power, "lr_end": 0.0}
        case "warmup_stable_decay":
            # The number of updates of the decay is added when the trainer knows how many there are.
            return {"decay_type": _DECAYS[given.decay], "min_lr_ratio": given.min_lr_ratio}
        case "reduce_lr_on_plateau":
            return {"factor": given.plateau_factor, "patience": given.plateau_patience}
        case _:
            return {}
