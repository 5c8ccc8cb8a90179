"""The models of jobs used in a real daemon, from the command line: evaluated and exported, checkpoints too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.hands import RealDaemon

from ftclient import Client, Job

# Six real jobs, each with its preparation, one after another.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = [("What is a queue?", "A line of jobs that wait."), ("What is a step?", "One change of the weights.")]
TRAINING = """
name: {name}
model: {{path: smol-nano}}
data: {{train: [rows.jsonl], eval: [rows.jsonl], max_length: 64}}
{method}: {{}}
schedule: {{max_steps: 4}}
batch: {{global_batch: 2}}
optimizer: {{learning_rate: 1e-3}}
checkpoints: {{cadence: steps, every_steps: 2}}
evaluation: {{cadence: steps, every_steps: 2}}
"""
EVALUATION = "data: {eval: [rows.jsonl], max_length: 64}\n"


@pytest.fixture(scope="module", params=["qlora", "full"])
def daemon(
    request: pytest.FixtureRequest, smol_nano: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealDaemon]:
    root = tmp_path_factory.mktemp("using")
    rows = [json.dumps({"prompt": question, "completion": answer}) for question, answer in ROWS]
    (root / "rows.jsonl").write_text("\n".join(rows) + "\n")
    (root / "eval.yaml").write_text(EVALUATION)
    with RealDaemon(root, smol_nano) as daemon:
        trained = TRAINING.format(name="trained", method=request.param)
        assert daemon.ftctl("submit", "-f", "job.yaml", "--wait", spec=trained).code == 0
        yield daemon


def figures(daemon: RealDaemon, job: str) -> dict[int, float]:
    """The loss of each evaluation of a job by its step."""
    lines = [json.loads(line) for line in daemon.ftctl("metrics", job, "-o", "jsonl").ok.splitlines()]
    return {
        int(each["evaluation"].get("step", 0)): each["evaluation"]["loss"] for each in lines if "evaluation" in each
    }


def test_output_and_checkpoint_have_the_figures_of_their_step(daemon: RealDaemon) -> None:
    told = figures(daemon, "trained")
    for model, step in (("trained", 4), ("trained@checkpoint-2", 2)):
        name = f"figures-{step}"
        said = daemon.ftctl("eval", model, "-f", "eval.yaml", "--name", name, "--wait")
        assert "mean_token_accuracy" in said.ok
        assert figures(daemon, name)[0] == pytest.approx(told[step], rel=1e-4)


def test_an_export_is_evaluated_as_what_it_was_made_of(daemon: RealDaemon) -> None:
    fp32 = ("--set", "output.dtype=fp32")
    assert daemon.ftctl("export", "trained", "--gguf", "q8_0", "--to", "made", "--name", "whole", *fp32).ok
    short = ("--set", "data.max_length=64")
    assert daemon.ftctl("eval", "whole", "--data", "rows.jsonl", "--name", "again", *short, "--wait").ok
    with Client(daemon.address) as client:
        whole: Job = client.get("whole")
    made = daemon.root / "made"
    assert whole.output_path == str(made)
    assert {"model.safetensors", "whole.Q8_0.gguf", "README.md"} <= {each.name for each in made.iterdir()}
    assert figures(daemon, "again")[0] == pytest.approx(figures(daemon, "trained")[4], rel=1e-4)
