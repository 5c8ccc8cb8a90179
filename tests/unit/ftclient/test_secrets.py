from __future__ import annotations

import pytest

from finetuned.v1 import job_pb2
from ftclient.secrets import take_out
from ftclient.specfile import read

# In pieces, so that nothing that looks for secrets finds one here.
HUGGING_FACE = "hf_" + "a1" * 17
GITHUB = "ghp_" + "a1" * 18
JWT = "eyJ" + "a" * 20 + ".eyJ" + "b" * 20 + "." + "c" * 30
HEX = "0123456789abcdef0123456789abcdef01234567"
IN_A_FILE = "keep it in a file of the host's secrets folder, and give the file's name "
PLACES = "in output.push.token_secret, trackers[0].wandb.api_key_secret or trackers[0].mlflow.token_secret"


def told(text: str) -> list[tuple[str, str, int | None]]:
    return [(problem.field, problem.description, problem.line) for problem in read(text).problems]


@pytest.mark.parametrize(
    ("form", "secret"),
    [
        ("a Hugging Face token", HUGGING_FACE),
        ("an API key", "sk-" + "proj-a1b2" * 5),
        ("a GitHub token", GITHUB),
        ("an AWS key", "AKIA" + "A1B2C3D4" * 2),
        ("a signed token", JWT),
        ("a private key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ],
)
def test_a_secret_is_refused_with_the_way_to_name_it(form: str, secret: str) -> None:
    where = f"looks like {form}, and a spec is stored and shown to others; {IN_A_FILE}{PLACES}"
    assert told(f'labels: {{team: cx}}\nannotations:\n  token: "{secret}"\n') == [("annotations.token", where, 3)]


def test_a_secret_in_the_place_of_its_name() -> None:
    text = f'trackers:\n- wandb:\n    api_key_secret: "{HEX}"\n'
    field, description, line = told(text)[0]
    assert (field, line) == ("trackers[0].wandb.api_key_secret", 3)
    assert description.endswith(f"{IN_A_FILE}here")


def test_the_secret_is_not_repeated() -> None:
    assert HUGGING_FACE not in str(told(f"annotations: {{token: {HUGGING_FACE}}}\nname: {HUGGING_FACE}\n"))


def test_a_password_in_a_url() -> None:
    (field, description, _), *_ = told("data:\n  train:\n  - path: https://me:word@host/a.jsonl\n")
    assert (field, description.partition(",")[0]) == ("data.train[0].path", "is a URL with a password")


def test_an_override_is_looked_at_too() -> None:
    found = read("model: {path: /a}\n", [f"model.hub_id={HUGGING_FACE}"])
    assert [problem.field for problem in found.problems] == ["model.hub_id"]


@pytest.mark.parametrize(
    "text",
    [
        f'model: {{path: /a, revision: "{HEX}"}}\n',
        "trackers:\n- wandb: {api_key_secret: wandb-key}\n",
        "data:\n  train:\n  - path: https://host:8443/a@b.jsonl\n",
        "name: sk-learn-like\n",
        "model: {path: /models/hf_models/a}\n",
    ],
)
def test_what_is_no_secret(text: str) -> None:
    assert told(text) == []


def test_a_message_is_looked_through_whole_and_keeps_none() -> None:
    spec = job_pb2.JobSpec()
    spec.training.lora.target_modules.extend(["q_proj", HUGGING_FACE])
    spec.training.model.adapters.add(base_path=HUGGING_FACE)
    spec.training.model.revision = GITHUB
    spec.labels["a"] = GITHUB
    assert sorted(path for path, _ in take_out(spec)) == [
        "labels.a",
        "training.lora.target_modules[1]",
        "training.model.adapters[0].base_path",
        "training.model.revision",
    ]
    assert not {HUGGING_FACE, GITHUB} & set(str(spec).split('"'))
    assert spec.training.lora.target_modules[0] == "q_proj"
