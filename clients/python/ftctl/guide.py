"""What `--help` shows beyond options: the commands by what they are about, and examples of each. Text only.

A command that is in no group is listed last; tests hold every command to a group and to examples that it accepts.
"""

from __future__ import annotations

from collections.abc import Mapping

# Names of other tools' commands that people's hands know, and the command that they are.
SAME_AS = {"apply": "submit", "estimate": "plan"}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Specs": ("init", "submit", "validate", "plan", "schema", "import", "data"),
    "Jobs": ("get", "describe", "explain", "clone", "priority", "front", "label", "hold", "release", "delete"),
    "Following": ("watch", "logs", "metrics", "compare", "wait", "events"),
    "What jobs leave": ("artifacts", "checkpoints", "eval", "export", "chat"),
    "Running": ("cancel", "stop", "save", "pause", "resume", "retry"),
    "The host": ("top", "gpus", "queue", "quota", "quarantine", "release-gpu"),
    "This program": ("context", "login", "config", "completion", "doctor", "version"),
}

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": ("ftctl init qlora > job.yaml",),
    "submit": (
        "ftctl submit -f job.yaml --follow",
        "ftctl submit -f job.yaml --set schedule.max_steps=20 --name trial --label team=cx",
        "ftctl submit -f job.yaml --request-id run-17 --wait  # repeated, it is the same job",
        "ftctl describe JOB -o yaml | ftctl submit -f -",
    ),
    "validate": ("ftctl validate -f job.yaml", "ftctl validate -f job.yaml --set lora.rank=64"),
    "plan": ("ftctl plan -f job.yaml", "ftctl plan -f job.yaml -o yaml  # every default spelled out"),
    "schema": ("ftctl schema | grep learning_rate", "ftctl schema --json-schema > job.schema.json  # for an editor"),
    "import": ("ftctl import train.yaml -o job.yaml", "ftctl import sft.sh --from swift --set dataset=rows.jsonl"),
    "data preview": ("ftctl data preview -f job.yaml --row 3",),
    "data check": ("ftctl data check -f job.yaml",),
    "data upload": ("ftctl data upload rows.jsonl.gz", "ftctl data upload rows.parquet --name support-v3"),
    "data list": ("ftctl data list",),
    "data delete": ("ftctl data delete support-v2",),
    "artifacts": (
        "ftctl artifacts @last",
        "ftctl artifacts JOB --download adapter/",
        "ftctl artifacts JOB --download best/ --name checkpoint-200",
    ),
    "eval": (
        "ftctl eval JOB --data held-out.jsonl --wait",
        "ftctl eval JOB@checkpoint-200 -f eval.yaml --set evaluation.generation.max_rows=200",
    ),
    "chat": (
        "ftctl chat JOB --vs base",
        "ftctl chat JOB@checkpoint-200 --temperature 0.7",
        "echo 'What is a queue?' | ftctl chat JOB",
    ),
    "export": (
        "ftctl export JOB --gguf q8_0 --ollama --to support-v3 --wait",
        "ftctl export JOB@checkpoint-200 --set output.dtype=bf16",
    ),
    "checkpoints": ("ftctl checkpoints JOB", "ftctl checkpoints JOB --delete checkpoint-100"),
    "get": (
        "ftctl get",
        "ftctl get --state running --state queued -w",
        "ftctl get -l 'team=cx,stage!=test'",
        "ftctl get job @last -o yaml",
        "ftctl get -o csv --limit 500 > jobs.csv",
    ),
    "describe": ("ftctl describe @last", "ftctl describe JOB -o yaml > job.yaml  # its spec, to submit again"),
    "explain": ("ftctl explain JOB  # why it waits, and when it starts", "ftctl explain lora.rank"),
    "clone": ("ftctl clone JOB --set optimizer.learning_rate=5e-5 --name slower",),
    "priority": ("ftctl priority JOB 10", "ftctl priority JOB -5"),
    "front": ("ftctl front JOB", "ftctl front --no JOB"),
    "label": ("ftctl label JOB stage=live draft-  # sets one, removes one",),
    "hold": ("ftctl hold JOB",),
    "release": ("ftctl release JOB",),
    "delete": ("ftctl delete JOB",),
    "watch": ("ftctl watch @last", "ftctl watch JOB --exit-status && notify-send done"),
    "logs": ("ftctl logs @last -f", "ftctl logs JOB --since 10m --grep 'error|warn' --timestamps"),
    "metrics": (
        "ftctl metrics @last --follow  # charts on a terminal",
        "ftctl metrics JOB -m loss,grad_norm --smooth 0.6 --log-y --x tokens",
        "ftctl metrics JOB -m loss,eval_loss -o csv > loss.csv",
    ),
    "compare": ("ftctl compare JOB OTHER --only-changed", "ftctl compare JOB OTHER --chart eval_loss"),
    "wait": ("ftctl wait JOB --timeout 6h", "ftctl wait JOB --for step=500"),
    "events": (
        "ftctl events -f",
        "ftctl events --state failed -l team=cx -o jsonl",
        "ftctl events --after CURSOR  # what was missed since",
    ),
    "cancel": ("ftctl cancel JOB", "ftctl cancel --save JOB"),
    "stop": ("ftctl stop JOB",),
    "save": ("ftctl save JOB",),
    "pause": ("ftctl pause JOB",),
    "resume": ("ftctl resume JOB",),
    "retry": ("ftctl retry JOB",),
    "top": ("ftctl top",),
    "gpus": ("ftctl gpus",),
    "queue": ("ftctl queue", "ftctl queue -o wide"),
    "quota": ("ftctl quota",),
    "quarantine": ("ftctl quarantine 2 --reason 'falls off the bus'",),
    "release-gpu": ("ftctl release-gpu 2",),
    "context list": ("ftctl context list",),
    "context use": ("ftctl context use gpu1", "FTD_CONTEXT=gpu2 ftctl get  # for one command"),
    "context add": (
        "ftctl context add gpu1 gpu1.example.com:7447 --ca /etc/finetuned/ca.pem",
        "ftctl context add here unix:/run/finetuned/ftd.sock",
    ),
    "context remove": ("ftctl context remove gpu1",),
    "config get": ("ftctl config get", "ftctl config get address"),
    "config set": ("ftctl config set tls true",),
    "login": ("ftctl login", "ftctl login < token"),
    "completion": (
        "source <(ftctl completion bash)",
        "ftctl completion fish > ~/.config/fish/completions/ftctl.fish",
    ),
    "doctor": ("ftctl doctor",),
    "version": ("ftctl version", "ftctl version --daemon"),
}


def epilog(command: str) -> str | None:
    """The examples of a command, as the end of its help."""
    lines = EXAMPLES.get(SAME_AS.get(command, command), ())
    # \b keeps click from joining the lines.
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)]) if lines else None


def grouped(commands: list[str]) -> list[tuple[str, list[str]]]:
    """The commands in their groups, in the order of both; what is in none comes last."""
    named = [name for names in GROUPS.values() for name in names]
    groups = [(title, [name for name in names if name in commands]) for title, names in GROUPS.items()]
    others = [name for name in commands if name not in named]
    return [(title, names) for title, names in [*groups, ("Others", others)] if names]
