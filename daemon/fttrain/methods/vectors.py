"""VeRA and IA3: a few vectors for each module. It must never apply a default of its own."""

from __future__ import annotations

from peft import IA3Config, VeraConfig

from finetuned.v1 import training_pb2
from fttrain.methods.parts import Method, modules


class Vera(Method):
    """Two vectors between random matrices that all modules share; those are made by the seed and saved."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> VeraConfig:
        """As the spec says."""
        vera = spec.vera
        return VeraConfig(
            task_type="CAUSAL_LM",
            r=vera.rank,
            vera_dropout=vera.dropout,
            target_modules=modules(vera.target_modules),
            modules_to_save=list(vera.modules_to_save) or None,
            d_initial=vera.initial,
            projection_prng_key=spec.seed,
            save_projection=True,
        )


class Ia3(Method):
    """A factor for each number that a module makes, or reads."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> IA3Config:
        """As the spec says."""
        ia3 = spec.ia3
        return IA3Config(
            task_type="CAUSAL_LM",
            target_modules=list(ia3.target_modules),
            feedforward_modules=list(ia3.feedforward_modules),
            modules_to_save=list(ia3.modules_to_save) or None,
        )
