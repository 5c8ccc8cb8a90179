"""The walk as a user takes it: `ftctl` and `ftclient` against a real daemon with real trainings, and nothing faked.

One spec is trained three times: undisturbed, cancelled and retried, and with the daemon killed in the middle. The two
disturbed ones must report what the undisturbed one does, step for step.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.daemon import eventually
from tests.support.hands import RealDaemon

from ftclient import Client, Event, StepMetrics

ROWS = Path(__file__).parents[1] / "data" / "walk"
STEPS = 18


@pytest.fixture(scope="module")
def daemon(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    root = shutil.copytree(ROWS, tmp_path_factory.mktemp("walk"), dirs_exist_ok=True)
    with RealDaemon(root, smol_nano) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: RealDaemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


@dataclass(frozen=True)
class Followed:
    """A job that ran to its end in the terminal of a user who did not look away."""

    id: str
    said: str


@pytest.fixture(scope="module")
def followed(daemon: RealDaemon) -> Followed:
    said = daemon.ftctl("submit", "-f", "job.yaml", "--follow", "--label", "team=cx").ok
    return Followed(said.split()[0], said)


def losses(events: Iterable[Event]) -> dict[int, float]:
    """Loss by step; a step that is reported twice is an error."""
    steps = [event.kind for event in events if isinstance(event.kind, StepMetrics)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    return {step.step: step.loss for step in steps}


def until_step(events: Iterator[Event], step: int) -> list[Event]:
    """Reads a stream up to a step."""
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event.kind, StepMetrics) and event.kind.step == step:
            return seen
    raise AssertionError(f"the stream ended before step {step}: {seen}")


def test_a_spec_becomes_an_adapter(daemon: RealDaemon, client: Client, followed: Followed) -> None:
    events = list(client.metrics(followed.id))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    by_step = losses(events)
    assert len(by_step) == STEPS
    assert by_step[STEPS] < 0.7 * by_step[1]

    job = client.get("walk")
    assert (job.state, job.progress and job.progress.last_seq) == ("succeeded", len(events))
    assert [move.to_state for move in job.transitions] == ["preparing", "queued", "starting", "running", "succeeded"]
    assert f"{STEPS} steps" in followed.said
    assert job.output_path in followed.said

    artifacts = client.artifacts(job)
    assert [(found.kind, found.name) for found in artifacts] == [
        ("adapter", "output"),
        ("checkpoint", "checkpoint-18"),
        ("checkpoint", "checkpoint-16"),
    ]
    assert all(
        (Path(found.path) / file.path).stat().st_size == file.bytes for found in artifacts for file in found.files
    )


# transformers 5 renames gradient checkpointing; peft 0.21 still uses the old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_adapter_loads_and_changes_the_answer(client: Client, followed: Followed, smol_nano: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    output = client.get(followed.id).output_path
    tokenizer = AutoTokenizer.from_pretrained(output)
    base = AutoModelForCausalLM.from_pretrained(smol_nano, dtype="float32")
    turns = json.loads((ROWS / "questions.jsonl").read_text().splitlines()[0])["messages"]
    question = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False)
    ids = torch.tensor([tokenizer.apply_chat_template(turns, return_dict=False)])
    answer = ids.clone()
    answer[:, : len(question)] = -100
    with torch.no_grad():
        before = base(ids, labels=answer).loss.item()
        after = PeftModel.from_pretrained(base, output)(ids, labels=answer).loss.item()
    assert after < 0.7 * before


def test_the_past_is_told_as_it_was_live(daemon: RealDaemon, client: Client, followed: Followed) -> None:
    lines = [json.loads(line) for line in daemon.ftctl("metrics", followed.id, "-o", "jsonl").ok.splitlines()]
    assert [line["seq"] for line in lines] == [event.seq for event in client.metrics(followed.id)]
    assert lines[-1]["ended"]["checkpoint"] == "checkpoint-18"
    half = len(lines) // 2
    assert [event.seq for event in client.metrics(followed.id, after_seq=half)] == list(range(half + 1, len(lines) + 1))

    table = daemon.ftctl("get", "jobs", "-l", "team=cx").ok.splitlines()
    assert table[1].split()[:4] == [followed.id, "walk", "succeeded", "18/18"]
    assert re.search(r"^output +adapter +18 ", daemon.ftctl("describe", followed.id).ok, re.MULTILINE)


def test_a_cancelled_training_is_saved_and_goes_on_from_there(
    daemon: RealDaemon, client: Client, followed: Followed
) -> None:
    job = daemon.ftctl("submit", "-f", "job.yaml", "--name", "cancelled", "-q").ok.strip()
    until_step(client.metrics(job), 2)
    daemon.ftctl("cancel", "--save", job).ok  # noqa: B018 - it must not fail
    ended = daemon.ftctl("wait", job)
    assert (ended.code, ended.err.splitlines()[0]) == (103, f"error: job {job} (cancelled) was cancelled")
    assert daemon.processes(job) == []
    stopped = client.get(job)
    assert stopped.progress is not None
    assert 2 <= stopped.progress.step < STEPS
    saved = f"checkpoint-{stopped.progress.step}"
    assert client.artifacts(job)[0].name == saved

    assert daemon.ftctl("retry", job, "-q").ok.strip() == job
    assert daemon.ftctl("wait", job).ok == f"{job}  cancelled  succeeded\n"
    attempts = client.get(job).attempts
    assert [(each.outcome, each.resumed_from, each.checkpoint) for each in attempts] == [
        ("stopped", "", saved),
        ("completed", saved, "checkpoint-18"),
    ]
    assert losses(client.metrics(job)) == pytest.approx(losses(client.metrics(followed.id)), rel=1e-5)


def test_a_killed_daemon_loses_no_step(daemon: RealDaemon, client: Client, followed: Followed) -> None:
    job = daemon.ftctl("submit", "-f", "job.yaml", "--name", "killed", "-q").ok.strip()
    stream = client.metrics(job)
    seen = until_step(stream, 2)
    processes = daemon.processes(job)
    daemon.kill()
    # The training goes on with nobody there.
    journal = daemon.state / "runs" / job / "events.journal"
    size = journal.stat().st_size
    eventually(lambda: journal.stat().st_size > size + 300)
    assert daemon.processes(job) == processes
    daemon.start()

    # The very stream that was cut.
    seen += stream
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert losses(seen) == pytest.approx(losses(client.metrics(followed.id)), rel=1e-5)
    ended = client.wait(job)
    assert (ended.state, len(ended.attempts)) == ("succeeded", 1)
    assert client.data_report(job).from_cache


def test_a_checkpoint_is_talked_to_beside_the_model_it_began_with(
    daemon: RealDaemon, followed: Followed, client: Client
) -> None:
    model, options = f"{followed.id}@checkpoint-16", ("--set", "resources.device=cpu", "--max-tokens", "8")
    said = daemon.ftctl("chat", model, "--keep", "--vs", "base", *options, typed="What is a queue?\nAnd a step?\n")
    assert [line for line in said.ok.splitlines() if line in ("base:", "tuned:")] == ["base:", "tuned:"] * 2

    kept = next(client.list(page_size=1))
    assert kept.id in said.err
    alone = [
        daemon.ftctl("chat", kept.id, "--max-tokens", "8", typed=f"{way}What is a queue?\n") for way in ("/base\n", "")
    ]
    base, tuned = re.findall(r"(?s)base:\n(.*?)\ntuned:\n(.*?)\nbase:", said.out)[0]
    assert [each.ok for each in alone] == [f"{base}\n", f"{tuned}\n"]
    progress = client.get(kept).progress
    assert progress is not None
    assert progress.phase == "answering"
    client.cancel(kept)
