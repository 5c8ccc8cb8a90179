"""Real trainings of the carved model on the CPU, each a rank with its Bootstrap and its prepared rows, no daemon.

Most run in this process, through the same body that a rank runs, so that the training stack is imported once; what is
about processes and signals starts real ranks.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import training as support
from tests.support.models import smol_nano  # noqa: F401 - a fixture
from tests.support.training import QUESTIONS, REJECTED, of_kind, turn

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import manifest
from fttrain.failure import Refused
from fttrain.files import write_message
from fttrain.journal import JournalWriter
from fttrain.rank import stops
from fttrain.report import Report

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")

# transformers 5 renames gradient checkpointing; TRL 1.16 and peft 0.21 still use the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def rows(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: F811
    """Folders of prepared rows by stage."""
    import torch
    from transformers import AutoTokenizer

    # As the Bootstrap says to a rank. Two threads on two busy cores would spin for each other.
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(smol_nano)
    folder = tmp_path_factory.mktemp("prepared")
    sft, text = support.sft_rows(tokenizer), support.text_rows(tokenizer)
    return {
        "sft": support.prepare(folder / "sft", sft, sft[:3]),
        "pretrain": support.prepare(folder / "pretrain", text),
        "dpo": support.prepare(folder / "dpo", support.preference_rows(tokenizer)),
    }


@pytest.fixture(autouse=True)
def _nobody_asked_to_stop(tmp_path: Path) -> Iterator[None]:
    stops.watch(tmp_path / "stop.json")
    yield
    stops.watch(tmp_path / "no-stop.json")


def train(message: trainer_pb2.Bootstrap) -> trainer_pb2.RankResult:
    """The body of a rank, in this process."""
    from fttrain.recipe import train

    with JournalWriter(Path(message.run_directory) / "events.journal") as journal:
        return train(message, Report(journal, message.attempt))


def steps(run: Path) -> list[Any]:
    return list(of_kind(support.events(run), "step"))


def losses(run: Path) -> list[float]:
    return [step.loss for step in steps(run)]


# --- every kind of training learns ----------------------------------------------------------------------------------

KINDS = {
    ("sft", "lora"): "optimizer { learning_rate: 2e-3 }",
    ("sft", "qlora"): "optimizer { learning_rate: 2e-3 }",
    ("sft", "full"): "optimizer { learning_rate: 3e-4 }",
    ("sft", "freeze"): "optimizer { learning_rate: 1e-3 }",
    ("pretrain", "lora"): "optimizer { learning_rate: 2e-3 } data { packing: true }",
    ("dpo", "lora"): "optimizer { learning_rate: 1e-3 }",
}


@pytest.mark.parametrize(("stage", "method"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_the_loss_falls(stage: str, method: str, smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    spec = support.resolved_spec(smol_nano, stage, method, KINDS[stage, method])
    result = train(support.bootstrap(tmp_path, spec, rows[stage]))

    assert result.outcome == event_pb2.OUTCOME_COMPLETED
    seen = steps(tmp_path)
    assert [step.step for step in seen] == list(range(1, 9))
    assert sum(losses(tmp_path)[-2:]) < 0.8 * sum(losses(tmp_path)[:2])
    manifest.verify(tmp_path / "output")


def test_what_a_step_reports(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    changes = "schedule { max_steps: 2 } evaluation { cadence: CADENCE_STEPS every_steps: 1 micro_batch: 2 }"
    train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano, changes=changes), rows["sft"]))

    told = support.events(tmp_path)
    (started,) = of_kind(told, "started")
    assert (started.first_step, started.total_steps, started.world_size) == (0, 2, 1)
    assert 0 < started.trainable_parameters < started.parameters
    first, second = of_kind(told, "step")
    assert (first.epoch, second.epoch) == (0.5, 1.0)
    assert second.learning_rate < first.learning_rate or first.learning_rate == 0
    assert first.grad_norm > 0
    # Eight rows in two updates, no padding counted.
    assert second.tokens == sum(map(len, _tokens(rows["sft"])))
    assert second.tokens_per_second == pytest.approx((second.tokens - first.tokens) / second.step_seconds)
    assert 100 << 20 < second.peak_memory_bytes < 100 << 30
    assert all(math.isfinite(e.loss) and e.seconds > 0 for e in of_kind(told, "evaluation"))
    assert [e.step for e in of_kind(told, "evaluation")] == [1, 2]
    phases = [event_pb2.Phase.Name(phase.phase) for phase in of_kind(told, "phase")]
    assert phases[0] == "PHASE_TRAINING"
    assert "PHASE_EVALUATING" in phases
    assert phases[-1] == "PHASE_EXPORTING"


def _tokens(prepared: Path) -> list[list[int]]:
    from datasets import load_from_disk

    return list(load_from_disk(str(prepared / "train"))["input_ids"])


def test_dpo_reports_rewards_and_margins(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    spec = support.resolved_spec(smol_nano, "dpo", "full", "schedule { max_steps: 2 warmup_ratio: 0 }")
    train(support.bootstrap(tmp_path, spec, rows["dpo"]))

    first, second = (step.extra for step in steps(tmp_path))
    # The model starts as its own reference and then moves away from it.
    assert first["rewards/margins"] == 0
    assert second["rewards/chosen"] != 0
    assert second["rewards/margins"] == pytest.approx(second["rewards/chosen"] - second["rewards/rejected"], rel=1e-4)
    assert 0 <= second["rewards/accuracies"] <= 1


def test_freeze_moves_the_last_layers_only(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    from safetensors.torch import load_file

    spec = support.resolved_spec(smol_nano, "sft", "freeze", "schedule { max_steps: 2 warmup_ratio: 0 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))

    before, after = load_file(smol_nano / "model.safetensors"), load_file(tmp_path / "output" / "model.safetensors")
    moved = {name for name, weight in after.items() if not weight.equal(before[name].to(weight.dtype))}
    assert moved == {name for name in after if name.startswith(("model.layers.2.", "model.layers.3."))}


def test_packed_documents_do_not_see_each_other(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    """One update over all rows has the same loss, whether they lie in one packed sequence or each in its own."""
    first = {}
    for packing in ("true", "false"):
        changes = (
            f"schedule {{ max_steps: 1 }} batch {{ micro_batch: 8 global_batch: 8 }} data {{ packing: {packing} }}"
        )
        run = tmp_path / packing
        spec = support.resolved_spec(smol_nano, "pretrain", "lora", changes)
        train(support.bootstrap(run, spec, rows["pretrain"]))
        first[packing] = steps(run)[0]
    assert first["true"].loss == pytest.approx(first["false"].loss, rel=1e-5)
    assert first["true"].tokens == first["false"].tokens


# --- the same numbers as a plain script -----------------------------------------------------------------------------


def plain_arguments(folder: Path, **more: Any) -> dict[str, Any]:
    """What a user would write to get the test's resolved spec."""
    return {
        "output_dir": str(folder),
        "learning_rate": 1e-3,
        "max_steps": 8,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optim": "adamw_torch",
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 42,
    } | more


def plain_lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=8, lora_alpha=16, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM")


def plain_sft(model: Path, folder: Path, *, lora: bool) -> list[float]:
    """Supervised fine-tuning as TRL's own documentation does it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = [{"prompt": turn("user", q), "completion": turn("assistant", a)} for q, a in QUESTIONS]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=SFTConfig(**plain_arguments(folder)),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=plain_lora() if lora else None,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def plain_dpo(model: Path, folder: Path) -> list[float]:
    """Direct preference optimisation as TRL's own documentation does it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    data = [
        {"prompt": turn("user", q), "chosen": turn("assistant", a), "rejected": turn("assistant", REJECTED)}
        for q, a in QUESTIONS
    ]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        args=DPOConfig(**plain_arguments(folder, beta=0.1)),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=plain_lora(),
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("stage", "method"), [("sft", "lora"), ("sft", "full"), ("dpo", "lora")])
def test_losses_are_those_of_a_plain_script(
    stage: str,
    method: str,
    smol_nano: Path,  # noqa: F811
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    plain = tmp_path / "plain"
    expected = plain_dpo(smol_nano, plain) if stage == "dpo" else plain_sft(smol_nano, plain, lora=method == "lora")
    run = tmp_path / "ours"
    spec = support.resolved_spec(smol_nano, stage, method, "optimizer { learning_rate: 1e-3 }")
    train(support.bootstrap(run, spec, rows[stage]))
    assert losses(run) == pytest.approx(expected, rel=1e-5)


# --- stopping and going on ------------------------------------------------------------------------------------------

SAVING = "checkpoints { cadence: CADENCE_STEPS every_steps: 3 keep: 1 } optimizer { learning_rate: 5e-4 } "
EACH_EPOCH = "checkpoints { cadence: CADENCE_EPOCH keep: 1 } optimizer { learning_rate: 5e-4 }"


class StopsAfter(Report):
    """Asks this process to stop, as the keeper would, as soon as a step is told: the next step is the last."""

    def __init__(self, journal: JournalWriter, attempt: int, step: int, request: Path) -> None:
        super().__init__(journal, attempt)
        self._last = step
        self._request = request

    def step(self, metrics: event_pb2.StepMetrics) -> None:
        super().step(metrics)
        if metrics.step == self._last:
            write_message(self._request, trainer_pb2.StopRequest(save=False))
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ("method", "changes", "at"),
    [("lora", SAVING + "lora { dropout: 0.2 }", 3), ("full", EACH_EPOCH, 4)],
    ids=["lora-within-an-epoch", "full-between-epochs"],
)
def test_a_resumed_run_has_the_losses_of_one_never_stopped(
    method: str,
    changes: str,
    at: int,
    smol_nano: Path,  # noqa: F811
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Once from the middle of an epoch, where dropout makes the random state count, and once from an epoch's end."""
    from fttrain.recipe import train as body

    spec = support.resolved_spec(smol_nano, "sft", method, changes)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(support.bootstrap(whole, spec, rows["sft"]))

    first = support.bootstrap(cut, spec, rows["sft"])
    with JournalWriter(cut / "events.journal") as journal:
        result = body(first, StopsAfter(journal, 1, step=4, request=tmp_path / "stop.json"))
    assert result.outcome == event_pb2.OUTCOME_STOPPED
    assert losses(cut) == pytest.approx(losses(whole)[:5], rel=1e-6)
    assert [path.name for path in (cut / "checkpoints").iterdir()] == [f"checkpoint-{at}"]

    stops.watch(tmp_path / "none.json")
    train(support.bootstrap(cut, spec, rows["sft"], attempt=2, resume_from=f"checkpoint-{at}"))
    again = steps(cut)[5:]
    assert [step.step for step in again] == list(range(at + 1, 9))
    assert [step.loss for step in again] == pytest.approx(losses(whole)[at:], rel=1e-6)
    assert again[-1].tokens == steps(whole)[-1].tokens
    # keep: 1, and the last step is always saved with a cadence.
    assert [path.name for path in (cut / "checkpoints").iterdir()] == ["checkpoint-8"]


def test_a_signalled_rank_saves_and_the_next_attempt_goes_on(
    smol_nano: Path,  # noqa: F811
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    changes = "schedule { max_steps: 400 name: 'constant' } optimizer { learning_rate: 1e-4 }"
    spec = support.resolved_spec(smol_nano, changes=changes)
    message = support.bootstrap(tmp_path, spec, rows["sft"])
    rank = support.start_rank(message)
    _wait_for_steps(tmp_path, 2)
    write_message(tmp_path / "attempts" / "1" / "stop.json", trainer_pb2.StopRequest(save=True))
    rank.send_signal(signal.SIGUSR1)
    _, log = rank.communicate(timeout=60)

    assert rank.returncode == 0, log.decode()
    assert b"Warning" not in log
    said = support.result(message)
    last = steps(tmp_path)[-1].step
    assert (said.outcome, said.checkpoint) == (event_pb2.OUTCOME_STOPPED, f"checkpoint-{last}")
    assert said.peak_memory_bytes >= steps(tmp_path)[-1].peak_memory_bytes
    assert manifest.verify(tmp_path / "checkpoints" / said.checkpoint).step == last
    assert not (tmp_path / "output").exists()


def _wait_for_steps(run: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while not (run / "events.journal").exists() or len(steps(run)) < count:
        assert time.monotonic() < deadline, "no steps were told"
        time.sleep(0.05)


def test_a_stop_before_the_first_step_trains_nothing(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    write_message(tmp_path / "stop.json", trainer_pb2.StopRequest(save=False))
    stops.watch(tmp_path / "stop.json")
    result = train(support.bootstrap(tmp_path, support.resolved_spec(smol_nano), rows["sft"]))
    assert result.outcome == event_pb2.OUTCOME_STOPPED
    assert steps(tmp_path) == []


def test_an_attempt_that_died_before_its_output_trains_no_step_more(
    smol_nano: Path,  # noqa: F811
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """The last step, 3, lies in the middle of an epoch: the loop alone would go on to 4."""
    from safetensors.torch import load_file

    spec = support.resolved_spec(smol_nano, changes=SAVING + "schedule { max_steps: 3 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    trained = load_file(tmp_path / "output" / "adapter_model.safetensors")

    # The first output was sealed, but nobody heard of it: it is made again.
    again = support.bootstrap(tmp_path, spec, rows["sft"], attempt=2, resume_from="checkpoint-3")
    assert train(again).outcome == event_pb2.OUTCOME_COMPLETED
    assert [step.step for step in steps(tmp_path)] == [1, 2, 3]
    remade = load_file(tmp_path / "output" / "adapter_model.safetensors")
    assert all(weight.equal(remade[name]) for name, weight in trained.items())


def test_a_checkpoint_that_was_cut_is_not_resumed(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    spec = support.resolved_spec(smol_nano, changes=SAVING + "schedule { max_steps: 3 }")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    optimizer = tmp_path / "checkpoints" / "checkpoint-3" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])

    again = support.bootstrap(tmp_path, spec, rows["sft"], attempt=2, resume_from="checkpoint-3")
    with pytest.raises(Refused, match=r"checkpoint-3: optimizer.pt is not what was written"):
        train(again)


# --- several ranks --------------------------------------------------------------------------------------------------


def test_two_ranks_have_the_losses_of_one(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    changes = (
        "schedule { max_steps: 3 } optimizer { learning_rate: 5e-4 } checkpoints { cadence: CADENCE_EPOCH keep: 2 }"
    )
    spec = support.resolved_spec(smol_nano, changes=changes)
    one, two = tmp_path / "one", tmp_path / "two"
    train(support.bootstrap(one, spec, rows["sft"]))

    message = support.bootstrap(two, spec, rows["sft"], ranks=2)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks = [support.start_rank(message, RANK=str(r), LOCAL_RANK=str(r), **meeting) for r in (0, 1)]
    logs = [rank.communicate(timeout=120)[1].decode() for rank in ranks]

    assert [rank.returncode for rank in ranks] == [0, 0], logs
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert steps(two)[-1].tokens == steps(one)[-1].tokens
    assert support.result(message, rank=0).checkpoint == "checkpoint-3"
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {
        path.name for path in (two / "checkpoints/checkpoint-3").iterdir()
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- what is left ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "rate"), [("lora", 5e-3), ("full", 5e-4)])
def test_the_output_is_an_ordinary_folder(
    method: str,
    rate: float,
    smol_nano: Path,  # noqa: F811
    rows: dict[str, Path],
    tmp_path: Path,
) -> None:
    """It loads as any other, generates, has learned, and names nothing of this host."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = support.resolved_spec(smol_nano, "sft", method, f"optimizer {{ learning_rate: {rate} }}")
    train(support.bootstrap(tmp_path, spec, rows["sft"]))
    output = tmp_path / "output"

    base = AutoModelForCausalLM.from_pretrained(smol_nano, dtype="float32")
    before = _loss(base, rows["sft"])
    tuned = PeftModel.from_pretrained(base, output) if method == "lora" else None
    tuned = tuned or AutoModelForCausalLM.from_pretrained(output, dtype="float32")
    assert _loss(tuned, rows["sft"]) < 0.7 * before

    tokenizer = AutoTokenizer.from_pretrained(output)
    assert tokenizer.chat_template
    prompt = tokenizer.apply_chat_template(
        turn("user", QUESTIONS[0][0]), add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        answer = tuned.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > prompt["input_ids"].shape[1]

    written = {path.name: path.read_bytes() for path in output.iterdir()}
    assert not [name for name, content in written.items() if str(smol_nano.parent).encode() in content]
    assert not [name for name, content in written.items() if str(tmp_path).encode() in content]
    card = written["README.md"].decode()
    for fact in ('base_model: "smol-nano"', "jabcdefghk", "questions.jsonl | sha256:5555", "last training loss", "trl"):
        assert fact in card


def _loss(model: Any, prepared: Path) -> float:
    import torch
    from datasets import load_from_disk

    with torch.no_grad():
        values = [
            model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item()
            for row in load_from_disk(str(prepared / "train"))
        ]
    return sum(values) / len(values)


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_ends_the_training(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    changes = "optimizer { learning_rate: 1e30 max_grad_norm: 0 } schedule { warmup_ratio: 0 }"
    spec = support.resolved_spec(smol_nano, changes=changes)
    with pytest.raises(Refused, match=r"the loss became nan at step") as refused:
        train(support.bootstrap(tmp_path, spec, rows["sft"]))
    assert refused.value.failure_class == event_pb2.FAILURE_CLASS_LOSS_DIVERGED
    assert "learning_rate" in refused.value.advice
    assert math.isnan(losses(tmp_path)[-1])


def test_a_model_that_cannot_be_loaded_is_named(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    missing, torn, other = tmp_path / "missing", tmp_path / "torn", tmp_path / "other"
    for folder in (torn, other):
        folder.mkdir()
        for path in smol_nano.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
    (torn / "model.safetensors").write_bytes((smol_nano / "model.safetensors").read_bytes()[:1000])
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"num_hidden_layers": 4', '"num_hidden_layers": 5'))

    said = {missing: "is not a readable model folder", torn: "torn cannot be loaded", other: "lack 9 tensors"}
    for number, (folder, message) in enumerate(said.items(), 1):
        spec = support.resolved_spec(folder)
        with pytest.raises(Refused, match=message) as refused:
            train(support.bootstrap(tmp_path, spec, rows["sft"], attempt=number))
        assert refused.value.failure_class == event_pb2.FAILURE_CLASS_MODEL_LOAD


def test_a_failed_rank_says_so_and_exits_1(smol_nano: Path, rows: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    message = support.bootstrap(tmp_path, support.resolved_spec(smol_nano), tmp_path / "gone")
    rank = support.start_rank(message)
    _, log = rank.communicate(timeout=60)
    assert rank.returncode == 1
    said = support.result(message)
    assert said.outcome == event_pb2.OUTCOME_FAILED
    assert "the prepared rows of this job cannot be read" in said.failure.message
    assert b"Traceback" in log
