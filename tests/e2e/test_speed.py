"""What makes trainings fast changes nothing of what is learned: each step's loss is a plain TRL script's.

Tiny random models of the families in wide use; what a lever does besides, e.g. how often the reference is asked, is
counted where it would show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support import plain_trl
from tests.support import training as support
from tests.support.training import losses, of_kind, train

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing_:FutureWarning"),
    # GPT-2 has Conv1D, which PEFT turns its setting for by itself, and says so.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning"),
]

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL | {"head_dim": 8},
    "gemma": SMALL | {"head_dim": 8},
    "gemma3_text": SMALL | {"head_dim": 8, "sliding_window": 16},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "resid_pdrop": 0, "attn_pdrop": 0}
    | {"embd_pdrop": 0},
}
RATE = "optimizer { learning_rate: 1e-3 } "


@pytest.fixture(scope="module")
def tiny(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random model of each family, with the tokenizer of the carved one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    for kind, values in (FAMILIES | {"gemma2": SMALL | {"head_dim": 8}}).items():
        torch.manual_seed(5)
        config = CONFIG_MAPPING[kind](**values, **ids, vocab_size=len(tokenizer))
        AutoModelForCausalLM.from_config(config, attn_implementation="eager").save_pretrained(folder / kind)
        tokenizer.save_pretrained(folder / kind)
    return {kind: folder / kind for kind in (*FAMILIES, "gemma2")}


@pytest.mark.parametrize("stage", ["sft", "dpo", "kto"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_those_of_a_plain_script(
    family: str, stage: str, tiny: dict[str, Path], rows: dict[str, Path], tmp_path: Path
) -> None:
    """With padding left out, labels scored alone, prompts shared and the reference remembered."""
    expected = plain_trl.losses(stage, tiny[family], tmp_path / "plain", lora=True)
    train(support.bootstrap(tmp_path / "ours", support.resolved_spec(tiny[family], stage, changes=RATE), rows[stage]))
    assert losses(tmp_path / "ours") == pytest.approx(expected, rel=1e-5)
    assert not list(of_kind(support.events(tmp_path / "ours"), "notice"))


@pytest.mark.parametrize("changes", ["padding_free: false", "gradient_checkpointing: true"])
@pytest.mark.parametrize("stage", ["sft", "dpo", "reward", "orpo"])
def test_every_lever_alone_keeps_the_losses(
    stage: str, changes: str, tiny: dict[str, Path], rows: dict[str, Path], tmp_path: Path
) -> None:
    found = []
    for run, compute in (("all", ""), ("one", changes)):
        spec = support.resolved_spec(tiny["llama"], stage, "full", RATE + f"compute {{ {compute} }}")
        train(support.bootstrap(tmp_path / run, spec, rows[stage]))
        found.append(losses(tmp_path / run))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_model_that_needs_padding_keeps_it_and_the_job_says_so(
    tiny: dict[str, Path], rows: dict[str, Path], tmp_path: Path
) -> None:
    spec = support.resolved_spec(tiny["gemma2"], "sft", "lora", RATE + "model { attention: ATTENTION_EAGER }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    (notice,) = of_kind(support.events(tmp_path), "notice")
    assert notice.text == "the rows of a batch are padded to one length: its attention cannot be told where rows end"
    assert len(losses(tmp_path)) == 8


@pytest.mark.parametrize("stage", ["sft", "orpo"])
def test_an_order_by_length_is_kept_by_a_run_that_goes_on(
    stage: str, tiny: dict[str, Path], rows: dict[str, Path], tmp_path: Path
) -> None:
    """Two updates are an epoch; it goes on within the second one."""
    changes = RATE + "schedule { max_steps: 5 } batch { group_by_length: true } compute { padding_free: false } "
    changes += "checkpoints { cadence: CADENCE_STEPS every_steps: 3 keep: 2 }"
    spec = support.resolved_spec(tiny["llama"], stage, "lora", changes)
    train(support.bootstrap(tmp_path, spec, rows[stage]))
    whole = losses(tmp_path)
    train(support.bootstrap(tmp_path, spec, rows[stage], attempt=2, resume_from="checkpoint-3"))
    assert losses(tmp_path)[5:] == pytest.approx(whole[3:], rel=1e-5)


@pytest.mark.parametrize(("dropout", "asked"), [("0", 4), ("0.1", 16)])
def test_the_reference_is_asked_once_for_each_row(
    dropout: str, asked: int, tiny: dict[str, Path], rows: dict[str, Path], tmp_path: Path
) -> None:
    """Eight pairs, two at a time, for four epochs. With dropout TRL asks each time, and so do we."""
    from fttrain import recipe
    from fttrain.report import Report

    changes = f"lora {{ dropout: {dropout} }} schedule {{ max_steps: 8 }}"
    message = support.bootstrap(tmp_path, support.resolved_spec(tiny["llama"], "dpo", "lora", changes), rows["dpo"])
    trainer, _ = recipe.build_trainer(message, recipe.load_rows(message), Report(None, 1))
    calls: list[bool] = []
    decoder = trainer.model.get_base_model().base_model
    decoder.register_forward_hook(lambda *_: calls.append(trainer.model.active_adapter is not None))
    trainer.train()
    assert len(calls) == 16 + asked


@pytest.mark.parametrize("trained", [False, True], ids=["frozen head", "trained head"])
def test_the_head_scores_labels_as_trl_s_does(trained: bool) -> None:
    import torch
    from trl.kernels import ChunkedLogProbFunction

    from fttrain import losses as ours

    torch.manual_seed(3)
    hidden, weight, bias = torch.randn(40, 16), torch.randn(101, 16), torch.randn(101)
    labels, pull = torch.randint(0, 101, (40,)), torch.randn(40)
    found = []
    for theirs in (True, False):
        h = hidden.clone().requires_grad_()
        w, b = weight.clone().requires_grad_(trained), bias.clone().requires_grad_(trained)
        if theirs:
            asked = ("entropy", "mean_logits", "is_top1")
            scores = ChunkedLogProbFunction.apply(h, w, b, labels, 1.0, 64, None, 1.0, asked)
            scores = (scores[0], scores[1], scores[3], scores[4])
        else:
            scores = ours.LabelScores.apply(h, w, b, labels)
        (scores[0] * pull).sum().backward()
        found.append((*scores, h.grad, *((w.grad, b.grad) if trained else ())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=5e-5)


def test_a_batch_without_labels_has_a_loss_of_zero_and_no_gradient() -> None:
    import torch

    from fttrain import losses as ours

    hidden = torch.randn(0, 16, requires_grad=True)
    scores = ours.LabelScores.apply(hidden, torch.randn(101, 16), None, torch.zeros(0, dtype=torch.long))
    scores[0].sum().backward()
    assert [len(each) for each in scores] == [0, 0, 0, 0]
    assert hidden.grad is not None
