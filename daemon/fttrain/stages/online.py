"""What the stages that write their own answers share: prepared prompts, how answers are drawn, their rewards, samples.

Prompts come as token ids, so what was previewed is what is asked. It must never know a single one of these stages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from trl.trainer.utils import RepeatSampler, add_fused_lm_head

from finetuned.v1 import event_pb2, online_pb2
from fttrain import arguments, rewards
from fttrain.failure import Refused
from fttrain.stages.parts import Ours, Parts

# Updates between two samples in the log, and how much is shown of each text.
_SAMPLED = 10
_SHOWN = 500


def config(parts: Parts, sampling: online_pb2.Sampling) -> dict[str, Any]:
    """Arguments that these trainers share."""
    common = arguments.common(parts.spec, parts.checkpoints)
    # The preparation holds prompts to what is left beside an answer.
    del common["max_length"]
    return common | {
        "max_completion_length": sampling.max_completion_length,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": None,
        "repetition_penalty": sampling.repetition_penalty,
        "disable_dropout": parts.disables_dropout,
        "shuffle_dataset": True,
        "pad_to_multiple_of": None,
        "use_vllm": False,
        "log_completions": False,
        # The rewards read the other columns, and TRL counts the tokens itself.
        "remove_unused_columns": False,
        "include_num_input_tokens_seen": "no",
    }


def grouped(parts: Parts, stage: online_pb2.Grpo | online_pb2.Rloo) -> dict[str, Any]:
    """Arguments of the stages that compare several answers to a prompt."""
    needed = parts.spec.batch.global_batch // stage.generations
    need_prompts(parts, needed)
    return config(parts, stage.sampling) | {
        "num_generations": stage.generations,
        # An evaluation tells the mean reward, for which one answer to each prompt is enough.
        "num_generations_eval": 1,
        # TRL would make the reference of another model: see `compare_with`.
        "beta": 0.0 if parts.reference is not None else stage.beta,
        "epsilon": stage.epsilon,
        "epsilon_high": stage.epsilon_high,
        "num_iterations": stage.iterations,
        "mask_truncated_completions": stage.mask_truncated,
        "reward_weights": [each.weight for each in stage.rewards],
        "sync_ref_model": False,
    }


def need_prompts(parts: Parts, needed: int) -> None:
    """Raises Refused if there are fewer prompts than an update takes: there would be none."""
    if len(parts.rows.train) < needed:
        raise Refused(
            event_pb2.FAILURE_CLASS_DATA_INVALID,
            f"data.train has {len(parts.rows.train)} usable prompts, and an update takes {needed}",
            "give more prompts, or lower batch.global_batch",
        )


def reward_functions(parts: Parts, given: Iterable[online_pb2.RewardFunction]) -> list[rewards.Reward]:
    """The rewards of the stage."""
    stage = parts.spec.WhichOneof("stage")
    tools = rewards.Tools(
        parts.tokenizer, lambda field, weights: parts.frozen(field, weights, scores=True), parts.report
    )
    return rewards.build(given, f"{stage}.rewards", tools)


def compare_with(trainer: Any, reference: Any | None, beta: float) -> None:
    """Gives a trainer the model as it was, where that is not itself without its adapter."""
    if reference is None:
        return
    add_fused_lm_head(reference, temperature=trainer.temperature)
    trainer.beta = beta
    trainer.ref_model = trainer.accelerator.prepare_model(reference, evaluation_mode=True)


def sample(prompt: str, completion: str, given: Mapping[str, float | None]) -> dict[str, Any]:
    """What the log shows of an answer."""
    values = {name: None if value is None else round(value, 4) for name, value in given.items()}
    return {"prompt": prompt[-_SHOWN:], "completion": completion[:_SHOWN], "rewards": values}


def show(trainer: Any, logs: Mapping[str, float], shown: Mapping[str, Any]) -> None:
    """Prints the sample of an update now and then; the job's log keeps what is printed."""
    step = trainer.state.global_step
    if "loss" in logs and (step == 1 or step % _SAMPLED == 0) and trainer.is_world_process_zero():
        sys.stdout.write(json.dumps({"step": step, **shown}, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class EpochSampler(RepeatSampler):  # type: ignore[misc]
    """Prompts in an order of each epoch's own, so that a training that goes on later meets the ones that are left."""

    def set_epoch(self, epoch: int) -> None:
        """What follows are the prompts of this epoch."""
        self.generator.manual_seed(self.seed + epoch)


class Online(Ours):
    """Put before TRL's class: takes prompts as ids, and shows a sample now and then."""

    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return prompts, None, {}

    def _get_train_sampler(self, dataset: Any | None = None) -> Any:
        theirs = super()._get_train_sampler(dataset)
        return EpochSampler(
            theirs.data_source, theirs.mini_repeat_count, theirs.batch_size, theirs.repeat_count, seed=theirs.seed
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Tells the metrics, and shows the last answer with what each reward gave for it."""
        trainer: Any = self
        super().log(logs, *args, **kwargs)  # type: ignore[misc]
        kept = trainer._logs
        if kept["prompt"]:
            prompt = kept["prompt"][-1]
            prompt = prompt if isinstance(prompt, str) else trainer.processing_class.decode(prompt)
            given = {name: values[-1] for name, values in kept.get("rewards", {}).items()}
            show(trainer, logs, sample(prompt, kept["completion"][-1], given))
