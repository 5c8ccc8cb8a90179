"""Models that are used and not trained: an evaluation says what a training said of itself, an export is the model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from google.protobuf import text_format
from tests.support import training as support
from tests.support.training import of_kind
from transformers import AutoModelForCausalLM

from finetuned.v1 import event_pb2, training_pb2
from fttrain import manifest
from fttrain.failure import Refused
from fttrain.model import load_adapted
from fttrain.rank import stops

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

GENERATION = "generation { max_rows: 2 max_new_tokens: 4 temperature: 0 samples: 2 }"
TRAINED = f"""
schedule {{ max_steps: 2 warmup_ratio: 0 }}
evaluation {{ cadence: CADENCE_STEPS every_steps: 2 micro_batch: 2 metric: "loss" higher_is_better: false }}
evaluation {{ {GENERATION} }}
"""
USED = """
model { dtype: DTYPE_FP32 attention: ATTENTION_SDPA }
resources { device: DEVICE_KIND_CPU }
seed: 42
"""
EVALUATE = f"""{USED} evaluate {{}}
data {{ max_length: 128 long_rows: LONG_ROWS_TRUNCATE }}
compute {{ precision: DTYPE_FP32 padding_free: true }}
evaluation {{ micro_batch: 2 {GENERATION} }}
"""
QUANTISED = {
    "lora": "",
    "qlora": "qlora { quant_type: QUANT_TYPE_NF4 double_quant: true compute_dtype: DTYPE_FP32 }",
}
EXPORT = f"""{USED} export {{}}
output {{ dtype: DTYPE_FP32 max_shard_bytes: {16 << 20} gguf: GGUF_TYPE_F16 ollama: true }}
"""


@dataclass(frozen=True)
class Trained:
    """A training of an adapter that has ended."""

    method: str
    run: Path
    base: Path
    rows: Path

    def spec(self, text: str, changes: str = "") -> training_pb2.TrainingSpec:
        """A resolved spec that uses its output."""
        spec = text_format.Merge(f"{text}{changes}", training_pb2.TrainingSpec())
        spec.model.path = str(self.base)
        spec.model.adapters.add(path=str(self.run / "output"))
        return text_format.Merge(QUANTISED[self.method], spec)


@pytest.fixture(scope="module")
def trained(smol_nano: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train("lora", smol_nano, rows["sft"], tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def trained_on_4_bits(smol_nano: Path, rows: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train("qlora", smol_nano, rows["sft"], tmp_path_factory.mktemp("trained"))


@pytest.fixture(params=["trained", "trained_on_4_bits"])
def either(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.getfixturevalue(request.param)
    return found


def train(method: str, base: Path, rows: Path, run: Path) -> Trained:
    spec = support.resolved_spec(base, method=method, changes=TRAINED)
    support.train(support.bootstrap(run, spec, rows))
    return Trained(method, run, base, rows)


def last(run: Path, kind: str) -> Any:
    """The last event of a kind."""
    return list(of_kind(support.events(run), kind))[-1]


def test_an_evaluation_finds_what_the_training_found(either: Trained, tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, either.spec(EVALUATE), either.rows)
    assert support.train(message).outcome == event_pb2.OUTCOME_COMPLETED

    found, expected = last(tmp_path, "evaluation"), last(either.run, "evaluation")
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert set(found.extra) == set(expected.extra)
    assert dict(found.extra) == pytest.approx(dict(expected.extra), rel=1e-4)
    assert (found.step, found.best) == (0, False)
    assert last(tmp_path, "answers").answers == last(either.run, "answers").answers
    told = json.loads((tmp_path / "output" / "evaluation.json").read_text())
    assert told == {"loss": found.loss, **found.extra}


def test_an_evaluation_leaves_figures_and_answers_and_no_weights(trained: Trained, tmp_path: Path) -> None:
    support.train(support.bootstrap(tmp_path, trained.spec(EVALUATE), trained.rows))
    assert manifest.verify(tmp_path / "output").step == 0
    assert {path.name for path in (tmp_path / "output").iterdir()} == {
        "evaluation.json",
        "generated_predictions.jsonl",
        "manifest.json",
    }
    assert not (tmp_path / "checkpoints").exists()
    lines = [json.loads(line) for line in (tmp_path / "generated_predictions.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"set", "row", "prompt", "label", "predict"}] * 2


@pytest.mark.parametrize("text", [EVALUATE, EXPORT], ids=["evaluate", "export"])
def test_what_is_asked_to_stop_leaves_nothing(text: str, trained: Trained, tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, trained.spec(text), trained.rows)
    stops.ask()
    assert support.train(message).outcome == event_pb2.OUTCOME_STOPPED
    assert not (tmp_path / "output").exists()


def test_an_export_is_the_adapted_model_in_all_its_files(either: Trained, tmp_path: Path) -> None:
    message = support.bootstrap(tmp_path, either.spec(EXPORT), either.rows)
    assert support.train(message).outcome == event_pb2.OUTCOME_COMPLETED

    output = tmp_path / "output"
    base = load_adapted(message)
    adapted = logits(base)
    with base.disable_adapter():
        plain = logits(base)
    exported = logits(AutoModelForCausalLM.from_pretrained(output))
    assert (exported - adapted).abs().max() < 1e-4 < (exported - plain).abs().max()
    read = AutoModelForCausalLM.from_pretrained(output, gguf_file="questions.F16.gguf", dtype=torch.float32)
    assert (logits(read) - adapted).abs().max() < 5e-3 * adapted.abs().max()
    assert (output / "Modelfile").exists()
    assert len(list(output.glob("model-*.safetensors"))) > 1
    assert manifest.verify(output).step == 0
    card = (output / "README.md").read_text()
    assert "A copy of" in card
    assert str(either.run) not in card


def test_an_export_that_cannot_be_is_refused_before_it_writes(trained: Trained, tmp_path: Path) -> None:
    push = 'output { push { repository: "us/them" token_secret: "hub" } }'
    message = support.bootstrap(tmp_path, trained.spec(EXPORT, push), trained.rows)
    message.hub_token_path = str(tmp_path / "gone")
    with pytest.raises(Refused, match="the secret hub cannot be read"):
        support.train(message)
    assert not list(tmp_path.glob("*output*"))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[1, 520, 198, 30, 411, 9, 2]])).logits
    return found
