"""What is left of a training: an adapter or a whole model, and in which formats."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.inference import Export
from ftd.methods import Freeze, Full
from ftd.spec import DeviceKind, GgufType, TrainingSpec
from ftd.stages import Reward
from ftd.validate.problems import Problem, Rule, listed

# Model types that GGUF files are written of; a test compares the list with the writer.
GGUF_MODELS = ("llama", "mistral", "qwen2", "qwen3")
_ADAPTER = "the output is an adapter; accepted with output.merge, or the method full or freeze"


def is_whole_model(training: TrainingSpec) -> bool:
    """Whether the output is a whole model, and not an adapter only."""
    whole = isinstance(training.method, Full | Freeze) or isinstance(training.stage, Export)
    return whole or bool(training.output.merge)


def _output(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    output = training.output
    whole = is_whole_model(training)
    if output.merge and isinstance(training.method, Full | Freeze):
        yield "output.merge", "is on, but there is no adapter to merge; accepted with a method that trains one"
    for name in ("dtype", "max_shard_bytes"):
        if getattr(output, name) is not None and not whole:
            yield f"output.{name}", f"is given, but {_ADAPTER}"
    if output.gguf and not whole:
        yield "output.gguf", f"is given, but {_ADAPTER}"
    elif output.gguf and isinstance(training.stage, Reward):
        yield "output.gguf", "is given, but a reward model writes no text; leave it out"
    elif len(set(output.gguf)) < len(output.gguf):
        yield "output.gguf", f"names a format twice; accepted is each once of {listed(list(GgufType), 'and')}"
    if output.ollama and not output.gguf:
        yield "output.ollama", "is on, but there is no GGUF file to load; accepted with output.gguf"


def _push(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    push = training.output.push
    if push is None:
        return
    if push.repository is None:
        yield "output.push.repository", "is missing; accepted is a repository's name, owner/name"
    if push.token_secret is None:
        yield "output.push.token_secret", "is missing; accepted is the name of the host's secret with the hub's token"


RULES: tuple[Rule, ...] = (_output, _push)
