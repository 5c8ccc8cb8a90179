"""Prefix, prompt and p-tuning: virtual tokens before each row. It must never change what the row itself says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from finetuned.v1 import adapters_pb2, training_pb2
from fttrain import origins
from fttrain.methods.parts import Method

_ENCODERS = {adapters_pb2.ENCODER_MLP: "MLP", adapters_pb2.ENCODER_LSTM: "LSTM"}


# The network that makes virtual tokens, in a checkpoint: PEFT saves only what it makes.
_ENCODER_FILE = "prompt_encoder.safetensors"


class _Prompts(Method):
    """What the methods with virtual tokens share."""

    def settle(self, spec: training_pb2.TrainingSpec, trainer: Any) -> None:
        """Checkpoints keep all that is trained, and are gone on from with it."""
        encoder = trainer.model.prompt_encoder["default"]

        def load(folder: str, model: Any = None) -> None:
            encoder.load_state_dict(load_file(Path(folder) / _ENCODER_FILE))

        trainer._load_from_checkpoint = load
        trainer.add_callback(_Keeping(encoder))


class _Keeping(TrainerCallback):  # type: ignore[misc]
    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        save_file(self._encoder.state_dict(), Path(args.output_dir) / f"checkpoint-{state.global_step}" / _ENCODER_FILE)


class PrefixTuning(_Prompts):
    """Keys and values of virtual tokens in every layer."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> PrefixTuningConfig:
        """As the spec says."""
        prefix = spec.prefix_tuning
        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=prefix.virtual_tokens,
            prefix_projection=prefix.projection,
            encoder_hidden_size=prefix.encoder_hidden_size if prefix.projection else None,
        )


class PromptTuning(_Prompts):
    """Embeddings of virtual tokens."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> PromptTuningConfig:
        """As the spec says."""
        prompt = spec.prompt_tuning
        tokenizer = str(origins.tokenizer_folder(spec) or spec.model.hub_id)
        text = {
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": prompt.initial_text,
            "tokenizer_name_or_path": tokenizer,
        }
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=prompt.virtual_tokens,
            **(text if prompt.initial_text else {"prompt_tuning_init": "RANDOM"}),
        )


class PTuning(_Prompts):
    """Virtual tokens that a small network makes."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> PromptEncoderConfig:
        """As the spec says."""
        prompt = spec.p_tuning
        return PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=prompt.virtual_tokens,
            encoder_reparameterization_type=_ENCODERS[prompt.encoder],
            encoder_hidden_size=prompt.encoder_hidden_size,
            encoder_dropout=prompt.encoder_dropout,
        )
