"""What `--help` shows beyond options: the commands by what they are about, and examples of each. Text only.

A command that is in no group is listed last; tests hold every command to a group and to examples that it accepts.
"""

from __future__ import annotations

from collections.abc import Mapping

# Names of other tools' commands that people's hands know, and the command that they are.
SAME_AS = {"apply": "submit", "estimate": "plan"}

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Specs": ("init", "submit", "validate", "plan", "schema", "import", "data"),
    "Jobs": ("get", "describe", "explain", "clone", "priority", "front", "hold", "release", "delete"),
    "Following": ("watch", "logs", "metrics", "compare", "wait"),
    "Running": ("cancel", "stop", "save", "pause", "resume", "retry"),
    "The host": ("gpus", "queue", "quota", "quarantine", "release-gpu"),
    "This program": ("completion", "doctor", "version"),
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
    "get": (
        "ftctl get",
        "ftctl get --state running --state queued -w",
        "ftctl get job @last -o yaml",
        "ftctl get -o csv --limit 500 > jobs.csv",
    ),
    "describe": ("ftctl describe @last", "ftctl describe JOB -o yaml > job.yaml  # its spec, to submit again"),
    "explain": ("ftctl explain JOB  # why it waits, and when it starts", "ftctl explain lora.rank"),
    "clone": ("ftctl clone JOB --set optimizer.learning_rate=5e-5 --name slower",),
    "priority": ("ftctl priority JOB 10", "ftctl priority JOB -5"),
    "front": ("ftctl front JOB", "ftctl front --no JOB"),
    "hold": ("ftctl hold JOB",),
    "release": ("ftctl release JOB",),
    "delete": ("ftctl delete JOB",),
    "watch": ("ftctl watch @last", "ftctl watch JOB --exit-status && notify-send done"),
    "logs": ("ftctl logs @last -f", "ftctl logs JOB --since 10m --grep 'error|warn' --timestamps"),
    "metrics": ("ftctl metrics @last -m loss,eval_loss", "ftctl metrics JOB -o csv > loss.csv"),
    "compare": ("ftctl compare JOB OTHER --only-changed",),
    "wait": ("ftctl wait JOB --timeout 6h", "ftctl wait JOB --for step=500"),
    "cancel": ("ftctl cancel JOB", "ftctl cancel --save JOB"),
    "stop": ("ftctl stop JOB",),
    "save": ("ftctl save JOB",),
    "pause": ("ftctl pause JOB",),
    "resume": ("ftctl resume JOB",),
    "retry": ("ftctl retry JOB",),
    "gpus": ("ftctl gpus",),
    "queue": ("ftctl queue", "ftctl queue -o wide"),
    "quota": ("ftctl quota",),
    "quarantine": ("ftctl quarantine 2 --reason 'falls off the bus'",),
    "release-gpu": ("ftctl release-gpu 2",),
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
