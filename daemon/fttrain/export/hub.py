"""Uploads a finished output to a model hub. What fails there is said and no more: the output is on the host already.

The token is read from the host's secret at the moment it is used. It must never be logged, told or kept.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from finetuned.v1 import event_pb2, training_pb2
from fttrain.failure import Refused


def check(push: training_pb2.Push, token_path: str) -> None:
    """Raises Refused, before anything is trained, if the token cannot be read."""
    try:
        if _token(token_path):
            return
        problem = "is empty"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise Refused(
        event_pb2.FAILURE_CLASS_INTERNAL,
        f"output.push.token_secret: the secret {push.token_secret} {problem}",
        "ask the host's owner for a secret with the hub's token, or leave output.push out",
    )


def push(folder: Path, wanted: training_pb2.Push, token_path: str, endpoint: str | None = None) -> str:
    """Uploads every file of the folder in one commit; says in one line what came of it. `endpoint`: None, the usual."""
    try:
        hub = HfApi(endpoint=endpoint, token=_token(token_path))
        hub.create_repo(wanted.repository, private=wanted.private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=wanted.repository, folder_path=folder, commit_message="Upload the output of a finetuned job"
        )
    # Of a network, a server, a name, an answer that is none: nothing of it is a reason to lose a training.
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"the output could not be pushed to {wanted.repository}: {reason or type(error).__name__}"
    return f"the output was pushed to {wanted.repository}, commit {commit.oid}"


def _token(path: str) -> str:
    return Path(path).read_text().strip()
