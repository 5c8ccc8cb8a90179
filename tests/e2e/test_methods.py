"""Every method trains, moves exactly the parameters that the estimate counts, and leaves an output that works alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tests.support import training as support
from tests.support.training import losses, of_kind, train

from finetuned.v1 import event_pb2, training_pb2
from ftd import memory, wire
from ftd.spec import TrainingSpec
from ftsched.shapes import shape_of
from ftsched.trained import trained_parameters

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # So does prefix tuning of the cache.
    pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning"),
    # BOFT tries its kernel first.
    pytest.mark.filterwarnings("ignore:.*(Failed to load the CUDA extension|boft_n_butterfly_factor):UserWarning"),
    # An embedding is trained beside its twin, the head, and both are saved.
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*rank_pattern keys did not match:RuntimeWarning"),
    # AdaLoRA may leave a module no rank at all.
    pytest.mark.filterwarnings("ignore:Adapter 'default'. .* LoRA tensor.* have invalid shape"),
]

ALL = 'target_modules: "all-linear"'
LORA = f"rank: 8 alpha: 16 dropout: 0 {ALL}"
QV = 'target_modules: "q_proj" target_modules: "v_proj"'
FAST = "optimizer { learning_rate: 5e-3 }"
PADDED = "compute { padding_free: false }"


def at(rate: float) -> str:
    return f"optimizer {{ learning_rate: {rate} }}"


VARIANTS = {
    "lora-names": f"lora {{ rank: 8 alpha: 16 {QV} }}",
    "lora-excluding": f'lora {{ {LORA} exclude_modules: "mlp.down_proj" exclude_modules: "q_proj" }}',
    "lora-pattern": r'lora { rank: 8 alpha: 16 target_pattern: ".*\\.[02]\\.self_attn\\.(q|v)_proj" }',
    "lora-ranks": f'lora {{ {LORA} rank_pattern {{ key: "k_proj" value: 4 }} '
    'rank_pattern { key: "0.mlp.up_proj" value: 2 } '
    'alpha_pattern { key: "k_proj" value: 8 } }',
    "lora-layers": f'lora {{ {LORA} layers: 1 layers: 3 exclude_modules: "o_proj" }}',
    "lora-biases": f"lora {{ {LORA} bias: LORA_BIAS_ALL }}",
    "lora-dora": f"lora {{ {LORA} dora: true rslora: true }}",
    "lora-gaussian": f"lora {{ {LORA} init: LORA_INIT_GAUSSIAN }}",
    "lora-orthogonal": f"lora {{ {LORA} init: LORA_INIT_ORTHOGONAL }}",
    "lora-plus": f"lora {{ {LORA} loraplus_lr_ratio: 16 loraplus_embedding_lr: 1e-6 }} {at(1e-3)}",
    "lora-embedding": 'lora { rank: 8 alpha: 16 target_modules: "q_proj" target_modules: "embed_tokens" }',
    "lora-whole-modules": f'lora {{ rank: 8 alpha: 16 {QV} modules_to_save: "embed_tokens" '
    f'modules_to_save: "lm_head" }} {at(1e-3)}',
    "pissa": f"lora {{ {LORA} init: LORA_INIT_PISSA }} {at(1e-3)}",
    "pissa-fast": f"lora {{ {LORA} init: LORA_INIT_PISSA pissa_iterations: 4 }} {at(1e-3)}",
    "olora": f"lora {{ {LORA} init: LORA_INIT_OLORA }} {at(1e-4)}",
    "adalora": f"adalora {{ initial_rank: 8 rank: 4 alpha: 32 {ALL} initial_steps: 1 final_steps: 2 interval: 1 "
    f"orthogonality: 0.1 }} {at(2e-2)}",
    "vera": f"vera {{ rank: 64 {ALL} initial: 0.1 }} {at(5e-2)}",
    "oft": f"oft {{ block_size: 32 {ALL} }}",
    "oft-shared": f"oft {{ block_size: 48 {ALL} share_blocks: true constrained: true epsilon: 1 }}",
    "boft": f"boft {{ block_size: 8 factors: 1 {QV} }}",
    "ia3": 'ia3 { target_modules: "k_proj" target_modules: "v_proj" target_modules: "down_proj" '
    f'feedforward_modules: "down_proj" }} {at(5e-2)}',
    "prefix": f"prefix_tuning {{ virtual_tokens: 8 }} {at(5e-2)} {PADDED}",
    "prefix-projected": f"prefix_tuning {{ virtual_tokens: 8 projection: true encoder_hidden_size: 64 }} {PADDED}",
    "prompt": f"prompt_tuning {{ virtual_tokens: 8 }} {at(5e-2)} {PADDED}",
    "prompt-text": f'prompt_tuning {{ virtual_tokens: 8 initial_text: "Answer the question." }} {at(5e-2)} {PADDED}',
    "p-tuning": f"p_tuning {{ virtual_tokens: 8 encoder: ENCODER_MLP encoder_hidden_size: 64 }} {PADDED}",
    "p-tuning-lstm": f"p_tuning {{ virtual_tokens: 8 encoder: ENCODER_LSTM encoder_hidden_size: 32 }} {PADDED}",
    "qlora-int8": f"qlora {{ lora {{ {LORA} }} quant_type: QUANT_TYPE_INT8 }}",
    "qlora-stored": f"qlora {{ lora {{ {LORA} init: LORA_INIT_GAUSSIAN }} quant_type: QUANT_TYPE_FP4 "
    "double_quant: false compute_dtype: DTYPE_FP32 storage_dtype: DTYPE_BF16 }",
    "freeze-first": f"freeze {{ trainable_layers: -2 }} {support.WHOLE} {at(1e-3)}",
    "freeze-modules": 'freeze { trainable_layers: 2 modules: "mlp" modules: "input_layernorm" extra_modules: "norm" } '
    f"{support.WHOLE} {at(1e-3)}",
    "freeze-beyond": f'freeze {{ trainable_layers: 1 extra_modules: "embed_tokens" }} {support.WHOLE} {at(1e-3)}',
}
STEPS = "schedule { max_steps: 6 warmup_ratio: 0 } batch { micro_batch: 4 global_batch: 4 }"
EVALUATED = 'evaluation { cadence: CADENCE_STEPS every_steps: 6 micro_batch: 3 metric: "loss" }'


def spec_of(model: Path, changes: str) -> training_pb2.TrainingSpec:
    """A resolved spec whose method is that of the changes."""
    spec = support.resolved_spec(model)
    # Else the lists of its method would go on, not begin anew.
    spec.ClearField("lora")
    return text_format.Merge(f"{FAST} {STEPS} {changes}", spec)


def counted(spec: training_pb2.TrainingSpec, model: Path) -> int:
    """What the estimate counts."""
    from transformers import AutoConfig

    training = wire.from_proto(TrainingSpec, spec)
    return trained_parameters(memory.workload_of(training, 64), shape_of(AutoConfig.from_pretrained(model).to_dict()))


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_it_trains_as_counted_and_works_alone(
    changes: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    spec = spec_of(smol_nano, f"{changes} {EVALUATED}")
    result = train(support.bootstrap(tmp_path, spec, rows["sft"]))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    told = support.events(tmp_path)
    (started,) = of_kind(told, "started")
    assert started.trainable_parameters == counted(spec, smol_nano)
    seen = losses(tmp_path)
    assert sum(seen[-2:]) < 0.95 * sum(seen[:2])
    (evaluated,) = of_kind(told, "evaluation")
    if spec.WhichOneof("method") != "qlora":
        assert loss_of(tmp_path / "output", smol_nano, rows["sft"]) == pytest.approx(evaluated.loss, rel=2e-3)


def loss_of(output: Path, base: Path, prepared: Path) -> float:
    """The loss of the evaluation rows as anybody computes it who has the output and the base model."""
    import torch
    from datasets import load_from_disk
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    whole = (output / "config.json").exists()
    model: Any = AutoModelForCausalLM.from_pretrained(output if whole else base, dtype=torch.float32)
    if not whole:
        model = PeftModel.from_pretrained(model, str(output))
    found, tokens = 0.0, 0
    for row in load_from_disk(str(prepared / "eval")):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        trained = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            # Virtual tokens have logits too, before those of the row.
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -ids.shape[1] :]
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
        found += float(losses)
        tokens += trained
    return found / tokens


@pytest.mark.parametrize("name", ["pissa", "lora-plus", "vera", "boft", "prefix-projected", "p-tuning"])
@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_ended(
    name: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    saving = "checkpoints { cadence: CADENCE_STEPS every_steps: 3 keep: 2 }"
    spec = spec_of(smol_nano, f"{VARIANTS[name]} {saving}")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train(support.bootstrap(whole, spec, rows["sft"]))
    train(support.bootstrap(halves, spec, rows["sft"]))
    # What the second attempt finds is what the first one had saved half way.
    shutil.rmtree(halves / "checkpoints" / "checkpoint-6")
    shutil.rmtree(halves / "output")
    train(support.bootstrap(halves, spec, rows["sft"], attempt=2, resume_from="checkpoint-3"))
    assert losses(halves)[-3:] == pytest.approx(losses(whole)[-3:], rel=1e-4)
