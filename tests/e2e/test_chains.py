"""Chains of jobs in a real daemon: submitted at once, each takes what another leaves, and says where that is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.support.hands import RealDaemon

from ftclient import Client, InvalidSpec, Job, WrongState

# Four real trainings, each with its preparation, one after another.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = [("What is a queue?", "A line of jobs that wait."), ("What is a step?", "One change of the weights.")]
SMALL = {"schedule": {"max_steps": 2}, "batch": {"global_batch": 1}, "optimizer": {"learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def daemon(smol_nano: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    root = tmp_path_factory.mktemp("chains")
    answers = [{"prompt": question, "completion": answer} for question, answer in ROWS]
    pairs = [{"prompt": question, "chosen": answer, "rejected": "Nobody knows."} for question, answer in ROWS]
    for name, rows in (("answers", answers), ("pairs", pairs)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RealDaemon(root, smol_nano) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: RealDaemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


def spec(daemon: RealDaemon, rows: str, **fields: Any) -> dict[str, Any]:
    return {"data": {"train": [{"path": str(daemon.root / f"{rows}.jsonl")}], "max_length": 64}} | SMALL | fields


@pytest.fixture(scope="module")
def chain(daemon: RealDaemon, client: Client) -> dict[str, Job]:
    """The jobs of a chain, all submitted before the first has run, as they are when the last has ended."""
    base = {"path": str(daemon.root / "smol-nano")}
    lora = {"rank": 4, "target_modules": ["q_proj", "v_proj"]}
    client.submit(spec(daemon, "answers", name="first", model=base, lora=lora))
    client.submit(spec(daemon, "pairs", name="preferring", dpo={}, lora={"continue_from": {"from_job": "first"}}))
    client.submit(spec(daemon, "pairs", name="judge", model={"from_job": "first"}, reward={}, lora=lora))
    client.submit(spec(daemon, "answers", name="on-top", model={"from_job": "preferring"}, lora={"rank": 2}))
    return {name: client.wait(name, timeout=600) for name in ("first", "preferring", "judge", "on-top")}


def test_each_job_comes_after_the_ones_it_takes_from(chain: dict[str, Job]) -> None:
    first, preferring, judge, on_top = chain.values()
    assert [[each.job for each in job.dependencies] for job in chain.values()] == [
        [],
        [first.id],
        [first.id],
        [preferring.id],
    ]
    began = [str(job.proto.transitions[0].reason.message) for job in (first, judge)]
    assert began == [
        "its data is to be prepared",
        f"its data is to be prepared once {first.id} has left what it takes",
    ]
    assert judge.proto.start_time.ToNanoseconds() > first.proto.end_time.ToNanoseconds()
    assert on_top.proto.start_time.ToNanoseconds() > preferring.proto.end_time.ToNanoseconds()


def test_an_adapter_is_trained_on_in_its_own_shape(chain: dict[str, Job]) -> None:
    first, preferring, *_ = chain.values()
    assert preferring.resolved
    assert preferring.resolved.model.path.endswith("smol-nano")
    lora = preferring.resolved.lora
    assert (lora.rank, lora.alpha, list(lora.target_modules)) == (4, 8.0, ["q_proj", "v_proj"])
    before, after = (load_file(f"{job.output_path}/adapter_model.safetensors") for job in (first, preferring))
    moved = [float((after[key] - before[key]).abs().max()) for key in before]
    # Two updates of at most the learning rate each: it began where the first one ended.
    assert before.keys() == after.keys()
    assert 0 < max(moved) < 3e-3
    assert max(float(before[key].abs().max()) for key in before) > 10 * max(moved)


def test_a_new_adapter_carries_what_it_stands_on(chain: dict[str, Job]) -> None:
    preferring, judge, on_top = chain["preferring"], chain["judge"], chain["on-top"]
    for job, below in ((judge, chain["first"]), (on_top, preferring)):
        config = json.loads((Path(job.output_path) / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "smol-nano"
        carried = Path(job.output_path) / "base_adapters" / "1" / "adapter_model.safetensors"
        assert carried.read_bytes() == (Path(below.output_path) / "adapter_model.safetensors").read_bytes()
    assert not (Path(preferring.output_path) / "base_adapters").exists()


def test_the_lineage_names_job_step_and_digest(chain: dict[str, Job], daemon: RealDaemon) -> None:
    first, preferring, _, on_top = chain.values()
    lineages = [job.proto.lineage for job in chain.values()]
    [base] = {each.base_digest for each in lineages}
    assert len(base) == 64
    assert not lineages[0].ancestors
    assert lineages[0].data_digest == first.proto.data.digest
    found = [(each.field, each.job, each.step) for each in lineages[3].ancestors]
    assert found == [
        ("model.adapters[0]", preferring.id, 2),
        ("model.adapters[0]/lora.continue_from", first.id, 2),
    ]
    card = (Path(on_top.output_path) / "README.md").read_text()
    assert f"| model.adapters[0] | {preferring.id}: job {preferring.id}, step 2, sha256:" in card
    assert "base_adapters/{number}" in card
    assert str(daemon.root) not in card
    said = daemon.ftctl("describe", "on-top").ok
    assert f"job {preferring.id}, step 2" in said
    assert f"job {first.id}, step 2" in said


def test_what_a_job_needs_cannot_be_deleted(chain: dict[str, Job], client: Client, daemon: RealDaemon) -> None:
    held = client.submit(spec(daemon, "answers", model={"from_job": "first"}), hold=True)
    with pytest.raises(WrongState, match=f"{held.id} come after it"):
        client.delete("first")
    client.cancel(held)


REFUSED = [
    ({"model": {"from_job": "nobody"}}, "model.from_job", "no job has the id, id prefix or name 'nobody'"),
    ({"model": {"from_job": "judge"}}, "model.from_job", "output is a reward model; accepted is a model or an adapter"),
    ({"model": {"from_job": "first"}, "qlora": {}}, "model.from_job", "would be rounded to the bits of qlora"),
    ({"lora": {"continue_from": {"from_job": "judge"}}}, "lora.continue_from.from_job", "accepted is an adapter"),
    ({"lora": {"continue_from": {"from_job": "first"}, "rank": 8}}, "lora.rank", "continue_from has 4; leave it out"),
    ({"model": {"from_job": "self"}, "name": "self"}, "model.from_job", "is the job itself"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field", "text"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_taken_is_refused_at_once(
    chain: dict[str, Job], client: Client, daemon: RealDaemon, fields: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        client.submit(spec(daemon, "answers", **fields))
    found = {each.field: each.description for each in caught.value.violations}
    assert text in found[f"training.{field}"], found
