"""Commands that use a job's model: what they submit, and the figures at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job
from tests.unit.ftctl.conftest import Run

from finetuned.v1 import event_pb2, job_service_pb2, training_pb2
from ftd.spec import DeviceKind
from ftd.validate import check
from ftd.wire import read_spec

Matches = Callable[..., None]


@pytest.fixture
def trained(daemon: FakeDaemon) -> FakeDaemon:
    made = job("SUCCEEDED", step=10)
    daemon.jobs[made.id] = made
    return daemon


def submitted(daemon: FakeDaemon) -> training_pb2.TrainingSpec:
    [request] = [each for each in daemon.requests if isinstance(each, job_service_pb2.CreateJobRequest)]
    assert not check(read_spec(request.spec), DeviceKind.GPU)
    return request.spec.training


@pytest.mark.parametrize(
    ("given", "from_job", "checkpoint"),
    [
        ("support-v3", "support-v3", ""),
        ("@last", "k7m2p9x4qd", ""),
        ("support-v3@checkpoint-20", "support-v3", "checkpoint-20"),
        ("@last@checkpoint-20", "k7m2p9x4qd", "checkpoint-20"),
        # Some other name that has a @ in it.
        ("a@b", "a@b", ""),
    ],
)
def test_a_model_is_named_by_its_job(
    given: str, from_job: str, checkpoint: str, trained: FakeDaemon, ftctl: Run
) -> None:
    assert ftctl("export", given, "-q").out == "job0000001\n"
    model = submitted(trained).model
    assert (model.from_job, model.checkpoint) == (from_job, checkpoint)


def test_an_evaluation_is_what_file_and_command_line_say(trained: FakeDaemon, ftctl: Run, tmp_path: Path) -> None:
    (tmp_path / "eval.yaml").write_text(
        "evaluation: {micro_batch: 4, generation: {}}\ndata: {eval: [held-out.jsonl]}\n"
    )
    done = ftctl("eval", "support-v3", "-f", "eval.yaml", "--set", "data.max_length=512", "--name", "held-out")
    assert (done.code, done.out) == (0, "job0000001  held-out  preparing\n")
    spec = submitted(trained)
    assert spec.WhichOneof("stage") == "evaluate"
    assert spec.data.eval[0].path == str(tmp_path / "held-out.jsonl")
    assert (spec.data.max_length, spec.evaluation.micro_batch) == (512, 4)


def test_rows_are_named_without_a_file(trained: FakeDaemon, ftctl: Run, tmp_path: Path) -> None:
    assert ftctl("eval", "support-v3", "--data", "a.jsonl", "--data", "/d/b.jsonl").code == 0
    assert [each.path for each in submitted(trained).data.eval] == [str(tmp_path / "a.jsonl"), "/d/b.jsonl"]


def test_an_export_names_its_files(trained: FakeDaemon, ftctl: Run, tmp_path: Path) -> None:
    assert ftctl("export", "support-v3", "--gguf", "q8_0", "--gguf", "f16", "--ollama", "--to", "made").code == 0
    output = submitted(trained).output
    assert list(output.gguf) == [training_pb2.GGUF_TYPE_Q8_0, training_pb2.GGUF_TYPE_F16]
    assert (output.ollama, output.path) == (True, str(tmp_path / "made"))


def test_the_figures_come_at_the_end(trained: FakeDaemon, matches: Matches) -> None:
    found = event_pb2.EvaluationMetrics(loss=1.25, seconds=2, extra={"perplexity": 3.4903, "bleu": 21.5})
    trained.events["job0000001"] = [event_pb2.TrainingEvent(evaluation=found)]
    ended = job("SUCCEEDED")
    ended.id = "job0000001"
    trained.watched["job0000001"] = [ended]
    matches("eval", "eval", "support-v3", "--data", "a.jsonl", "--wait")


def test_a_mistake_is_told_as_of_a_file(trained: FakeDaemon, matches: Matches) -> None:
    matches("export-unknown-format", "export", "support-v3", "--gguf", "q4_k_m")
    matches("eval-unknown-field", "eval", "support-v3", "--set", "evaluation.rows=3")
