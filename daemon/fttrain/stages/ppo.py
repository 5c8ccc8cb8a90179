"""Proximal policy optimisation, a recipe of our own on transformers' trainer: TRL has none any more.

An update's prompts are answered at once, scored by the rewards, and trained on `iterations` times. The value head must
never become a part of the model: checkpoints have a file for it, the output does not.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, Trainer, TrainingArguments, set_seed
from trl.models.utils import disable_gradient_checkpointing, unwrap_model_for_generation
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model, use_adapter

from finetuned.v1 import online_pb2
from fttrain import advantages, arguments, rewards
from fttrain.stages import online
from fttrain.stages.parts import Ours, Parts

VALUE_HEAD = "value_head.safetensors"
_REFERENCE = "ref"


class Ppo:
    """Tokens become likelier where what came of them was better than the value head expected."""

    needs_reference = True

    def build(self, parts: Parts) -> Any:
        """The trainer, not yet started."""
        spec = parts.spec
        config = arguments.common(spec, parts.checkpoints) | {
            "remove_unused_columns": False,
            "include_num_input_tokens_seen": "no",
        }
        del config["max_length"]
        online.need_prompts(parts, spec.batch.global_batch)
        # Of the adapter's and the value head's first weights.
        set_seed(spec.seed)
        given = parts.for_trainer()
        adapter = given.pop("peft_config")
        given["model"] = _model(parts, adapter)
        return _PpoTrainer(
            args=TrainingArguments(**config),
            ppo=spec.ppo,
            reference=parts.reference,
            functions=online.reward_functions(parts, spec.ppo.rewards),
            data_collator=list,
            **given,
        )


def _model(parts: Parts, adapter: Any | None) -> Any:
    model = parts.model
    if isinstance(model, PeftModel) and parts.spec.ppo.beta > 0:
        # What it is compared with is the adapter as it was, not the model without it.
        model.add_adapter(_REFERENCE, model.peft_config["default"])
        for name, weight in model.named_parameters():
            if f".{_REFERENCE}." in name:
                weight.data.copy_(model.get_parameter(name.replace(f".{_REFERENCE}.", ".default.")).data)
    elif adapter is not None:
        model = get_peft_model(model, adapter)
    if parts.disables_dropout:
        disable_dropout_in_model(model)
    if parts.spec.compute.gradient_checkpointing and isinstance(model, PeftModel):
        model.enable_input_require_grads()
    return model


@dataclass(frozen=True, slots=True)
class Rollout:
    """Answers to prompts, and what is known of their tokens: tensors of (answers, tokens) but the first three."""

    # (answers, prompt and answer), prompts padded at the left and answers at the right; how long the longest answer is.
    ids: Tensor
    attention: Tensor
    width: int
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    # Tokens of all answers of the update.
    tokens: int

    def part(self, start: int, rows: int) -> Rollout:
        """Some of the answers."""
        names = ("ids", "attention", "mask", "log_probs", "values", "advantages", "returns")
        return Rollout(
            **{n: getattr(self, n)[start : start + rows] for n in names}, width=self.width, tokens=self.tokens
        )


class _PpoTrainer(Ours, Trainer):  # type: ignore[misc]
    def __init__(
        self, *, ppo: online_pb2.Ppo, reference: Any | None, functions: Sequence[rewards.Reward], **parts: Any
    ) -> None:
        self._ppo = ppo
        self._functions = functions
        self._rollout: Rollout | None = None
        self._part = 0
        self._figures: dict[str, list[float]] = defaultdict(list)
        self._sample: dict[str, Any] = {}
        super().__init__(**parts)
        # The losses are means over the tokens of an update; the trainer divides by its parts.
        self.model_accepts_loss_kwargs = False
        if self.processing_class.pad_token is None:
            self.processing_class.pad_token = self.processing_class.eos_token
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        temperature = ppo.sampling.temperature
        add_fused_lm_head(base, temperature=temperature, outputs=("log_probs", "entropy"))
        self._reference = reference
        if reference is not None:
            add_fused_lm_head(reference, temperature=temperature)
            reference.to(self.args.device)
        self._hidden: Tensor | None = None
        base.base_model.register_forward_hook(self._see)
        self.value_head = torch.nn.Linear(base.config.get_text_config().hidden_size, 1, device=self.args.device)
        # Values begin at 0, so the first advantages are the returns themselves.
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
        self._sampling = self._how_to_sample(base.generation_config.eos_token_id)

    def _see(self, _module: Any, _inputs: Any, outputs: Any) -> None:
        """Keeps the last hidden states of a forward pass, which the head of the vocabulary would hide."""
        self._hidden = outputs.last_hidden_state

    def _how_to_sample(self, ends: int | list[int] | None) -> GenerationConfig:
        sampling, tokenizer = self._ppo.sampling, self.processing_class
        known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        return GenerationConfig(
            max_new_tokens=sampling.max_completion_length,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted({*known, tokenizer.eos_token_id}),
            disable_compile=True,
        )

    # The loop: all prompts of an update come at once, as often as the update has parts and its answers are used.

    def get_train_dataloader(self) -> Any:
        """Prompts of whole updates."""
        return self._get_dataloader(
            dataset=self.train_dataset,
            description="Training",
            batch_size=self._train_batch_size * self.args.gradient_accumulation_steps,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def _get_train_sampler(self, dataset: Any | None = None) -> Any:
        parts = self.args.gradient_accumulation_steps
        rows = self._train_batch_size * parts
        return online.EpochSampler(
            dataset or self.train_dataset, 1, rows, self._ppo.iterations * parts, seed=self.args.seed
        )

    def _prepare_inputs(self, prompts: list[dict[str, Any]]) -> Rollout:
        """Training: a part of the rollout, which is new where the answers have been used. Else a rollout of its own."""
        if not self.model.training:
            return self._roll_out(prompts)
        if self._part == 0:
            # The trainer clears the gradients of the model only.
            self.value_head.zero_grad()
        used = self.state.global_step % self._ppo.iterations == 0 and self._part == 0
        if used or self._rollout is None:
            self._rollout = self._roll_out(prompts)
        rows, parts = self._train_batch_size, self.args.gradient_accumulation_steps
        part = self._rollout.part(self._part * rows, rows)
        self._part = (self._part + 1) % parts
        return part

    def prediction_step(self, model: Any, inputs: Any, *_args: Any, **_kwargs: Any) -> tuple[Tensor, None, None]:
        """The loss of fresh answers; the reward is told with it."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def compute_loss(self, model: Any, inputs: Rollout, *_args: Any, **_kwargs: Any) -> Tensor:
        """Both clipped losses over the tokens of an update."""
        log_probs, values, entropy = self._forward(model, inputs.ids, inputs.attention, inputs.width)
        ratios = (log_probs - inputs.log_probs) * inputs.mask
        policy = advantages.policy_losses(ratios, inputs.advantages, self._ppo.epsilon) * inputs.mask
        value = advantages.value_losses(values, inputs.values, inputs.returns, self._ppo.value_epsilon) * inputs.mask
        parts = self.args.gradient_accumulation_steps if self.model.training else 1
        share = parts / (inputs.tokens if self.model.training else int(inputs.mask.sum()))
        clipped = ((ratios.exp() - 1).abs() > self._ppo.epsilon) * inputs.mask
        self._tell(
            policy_loss=policy.sum() * share,
            value_loss=value.sum() * share,
            clip_ratio=clipped.sum() * share,
            entropy=(entropy * inputs.mask).sum() * share,
        )
        return (policy.sum() + self._ppo.value_weight * value.sum()) * share

    # A rollout: answers, what they are worth, and how likely and how promising each of their tokens was.

    @torch.no_grad()
    def _roll_out(self, prompts: list[dict[str, Any]]) -> Rollout:
        trains = self.model.training
        self.model.eval()
        answers = self._answer([row["prompt"] for row in prompts])
        scores = self._score(prompts, answers)
        ids, attention, mask = self._batch([row["prompt"] for row in prompts], answers)
        with disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            log_probs, values, _ = self._in_parts(self.model, ids, attention, mask.shape[1])
            before = self._before(ids, attention, mask.shape[1], log_probs)
        self.model.train(trains)
        ratios = (log_probs - before) * mask
        rewarded = advantages.token_rewards(scores, ratios, mask, self._ppo.beta)
        found, returns = advantages.advantages(rewarded, values, mask, self._ppo.gamma, self._ppo.gae_lambda)
        self._tell(kl=ratios.sum() / len(answers))
        if trains:
            self.state.num_input_tokens_seen += int(attention.sum())
        return Rollout(
            ids,
            attention,
            mask.shape[1],
            mask,
            log_probs,
            values,
            advantages.whitened(found, mask),
            returns,
            tokens=int(mask.sum()),
        )

    def _answer(self, prompts: list[list[int]]) -> list[list[int]]:
        """An answer to each prompt, with its end token where it came to one."""
        padding, device = self.processing_class.pad_token_id, self.args.device
        ids = _left([torch.tensor(prompt) for prompt in prompts], padding).to(device)
        mask = _left([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts], 0).to(device)
        with unwrap_model_for_generation(
            self.model_wrapped,
            self.accelerator,
            gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
        ) as model:
            found = model.generate(input_ids=ids, attention_mask=mask, generation_config=self._sampling)
        ends = set(self._sampling.eos_token_id)
        return [_ended(answer, ends) for answer in found[:, ids.shape[1] :].tolist()]

    def _score(self, prompts: list[dict[str, Any]], answers: list[list[int]]) -> Tensor:
        """The sum of the rewards by weight, (answers,)."""
        texts = self.processing_class.batch_decode(answers, skip_special_tokens=True)
        asked, references = [row["prompt"] for row in prompts], [row["answer"] for row in prompts]
        total = torch.zeros(len(answers))
        given = {}
        for reward, function in zip(self._ppo.rewards, self._functions, strict=True):
            found = function(prompts=asked, completions=texts, completion_ids=answers, answer=references)
            known = [value for value in found if value is not None]
            total += reward.weight * torch.tensor([value or 0.0 for value in found])
            given[reward.name] = found[-1]
            if known:
                self._tell(**{f"rewards/{reward.name}/mean": statistics.fmean(known)})
                self._tell(**{f"rewards/{reward.name}/std": statistics.pstdev(known)})
        ends = set(self._sampling.eos_token_id)
        lengths = [len(answer) for answer in answers]
        self._tell(reward=total.mean(), reward_std=total.std(correction=0))
        self._figures["completions/mean_length"].append(statistics.fmean(lengths))
        self._figures["completions/clipped_ratio"].append(
            statistics.fmean(float(answer[-1] not in ends) for answer in answers)
        )
        self._sample = online.sample(self.processing_class.decode(asked[-1]), texts[-1], given)
        return total.to(self.args.device)

    def _batch(self, prompts: list[list[int]], answers: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids and attention of prompts and answers, and which tokens are answers'."""
        padding = self.processing_class.pad_token_id
        asked = _left([torch.tensor(prompt) for prompt in prompts], padding)
        seen = _left([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts], 0)
        written = pad_sequence([torch.tensor(each) for each in answers], batch_first=True, padding_value=padding)
        mask = pad_sequence([torch.ones(len(each), dtype=torch.long) for each in answers], batch_first=True)
        tensors = torch.cat([asked, written], 1), torch.cat([seen, mask], 1), mask
        ids, attention, mask = (each.to(self.args.device) for each in tensors)
        return ids, attention, mask

    def _before(self, ids: Tensor, attention: Tensor, width: int, log_probs: Tensor) -> Tensor:
        """Log-probabilities of the model as it was; where it is not compared with, those of the model as it is."""
        if self._ppo.beta == 0:
            return log_probs
        if self._reference is not None:
            return self._in_parts(self._reference, ids, attention, width)[0]
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, _REFERENCE if _REFERENCE in model.peft_config else None):
            return self._in_parts(self.model, ids, attention, width)[0]

    def _in_parts(self, model: Any, ids: Tensor, attention: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = self._train_batch_size
        found = [
            self._forward(model, ids[start : start + rows], attention[start : start + rows], width)
            for start in range(0, len(ids), rows)
        ]
        log_probs, values, entropy = (torch.cat(each) for each in zip(*found, strict=True))
        return log_probs, values, entropy

    def _forward(self, model: Any, ids: Tensor, attention: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, values and entropies of the last `width` tokens; of the reference only the first."""
        labels = ids.masked_fill(attention == 0, -100)
        labels[:, :-width] = -100
        with self.accelerator.autocast():
            outputs = model(input_ids=ids, attention_mask=attention, labels=labels, fused_lm_head=True)
        log_probs = outputs.log_probs[:, -width:]
        if model is self._reference or self._hidden is None:
            return log_probs, torch.zeros_like(log_probs), torch.zeros_like(log_probs)
        values = self.value_head(self._hidden[:, -width - 1 : -1].float()).squeeze(-1)
        return log_probs, values, outputs.entropy[:, -width:].detach()

    # What stands beside the model: the value head in the optimizer and in checkpoints, figures in the log.

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The value head is trained with the model."""
        optimizer = super().create_optimizer(*args, **kwargs)
        optimizer.add_param_group({"params": list(self.value_head.parameters()), "weight_decay": 0.0})
        return optimizer

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        save_file(self.value_head.state_dict(), folder / VALUE_HEAD)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        self.value_head.load_state_dict(load_file(Path(resume_from_checkpoint) / VALUE_HEAD))

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """The trainer's own figures with ours."""
        prefix = "" if self.model.training else "eval_"
        # In place: they are also what an evaluation answers with.
        logs.update({f"{prefix}{name}": statistics.fmean(values) for name, values in self._figures.items()})
        super().log(logs, *args, **kwargs)
        self._figures.clear()
        online.show(self, logs, self._sample)

    def _tell(self, **figures: Any) -> None:
        for name, value in figures.items():
            self._figures[name].append(float(value.detach() if isinstance(value, Tensor) else value))


def _left(rows: list[Tensor], padding: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=padding, padding_side="left")


def _ended(answer: list[int], ends: set[int]) -> list[int]:
    """Up to its end token, which belongs to it."""
    end = next((index for index, token in enumerate(answer) if token in ends), len(answer))
    return answer[: end + 1]
