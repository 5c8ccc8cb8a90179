"""What a host says about the trackers of a spec: which kinds it allows and has, and whether their secrets are there.

Looks at installed packages and at files; sends nothing to anybody.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftd.errors import Violation
from ftd.paths import PathRefused, Roots
from ftd.secrets import SecretRefused, Secrets
from ftd.spec import choice_name
from ftd.trackers import Kind, Tensorboard, Tracker, secret_of

SECRET_FIELDS = {"wandb": "api_key_secret", "mlflow": "token_secret"}


@dataclass(frozen=True, slots=True)
class TrackerPolicy:
    """Which trackers jobs may have on this host."""

    allowed: tuple[str, ...]
    secrets: Secrets
    outputs: Roots

    def check(self, trackers: Sequence[Tracker]) -> Iterator[Violation]:
        """What is wrong with a job's trackers on this host. Reads files."""
        for index, tracker in enumerate(trackers):
            if tracker.kind is not None:
                name = choice_name(tracker.kind)
                for below, text in self._check(name, tracker.kind):
                    yield Violation(f"trackers[{index}].{name}{below}", text)

    def _check(self, name: str, kind: Kind) -> Iterator[tuple[str, str]]:
        if name not in self.allowed:
            accepted = " or ".join(self.allowed) or "none"
            yield "", f"is not allowed on this host ([security] trackers in its configuration); accepted is {accepted}"
        elif importlib.util.find_spec(name) is None:
            yield "", f"needs the package {name} on the host: install finetuned[trackers]"
        if (secret := secret_of(kind)) is not None:
            try:
                self.secrets.read(secret)
            except SecretRefused as refused:
                yield f".{SECRET_FIELDS[name]}", str(refused)
        if isinstance(kind, Tensorboard) and kind.directory is not None:
            try:
                self.outputs.check(kind.directory)
            except PathRefused as refused:
                yield ".directory", str(refused)
