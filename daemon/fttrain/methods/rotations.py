"""OFT and BOFT: rotations of what a module reads, in blocks. It must never apply a default of its own."""

from __future__ import annotations

from peft import BOFTConfig, OFTConfig

from finetuned.v1 import training_pb2
from fttrain.methods.parts import Method, modules


class Oft(Method):
    """One block-diagonal rotation for each module."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> OFTConfig:
        """As the spec says."""
        oft = spec.oft
        return OFTConfig(
            task_type="CAUSAL_LM",
            r=0,
            oft_block_size=oft.block_size,
            module_dropout=oft.dropout,
            target_modules=modules(oft.target_modules),
            modules_to_save=list(oft.modules_to_save) or None,
            block_share=oft.share_blocks,
            coft=oft.constrained,
            **({"eps": oft.epsilon} if oft.constrained else {}),
        )


class Boft(Method):
    """A product of sparse rotations for each module."""

    def adapter(self, spec: training_pb2.TrainingSpec) -> BOFTConfig:
        """As the spec says."""
        boft = spec.boft
        return BOFTConfig(
            task_type="CAUSAL_LM",
            boft_block_size=boft.block_size,
            boft_block_num=0,
            boft_n_butterfly_factor=boft.factors,
            boft_dropout=boft.dropout,
            target_modules=modules(boft.target_modules),
            modules_to_save=list(boft.modules_to_save) or None,
        )
