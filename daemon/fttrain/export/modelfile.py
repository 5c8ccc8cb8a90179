"""An Ollama Modelfile for a GGUF file: the chat template as Ollama's own language says it, and where an answer ends.

Ollama's templates are not Jinja. What a chat template puts around each turn is seen by rendering conversations, and is
written only if that explains them wholly. It must never write a template that renders what the model has not seen.
"""

from __future__ import annotations

import json
from typing import Any

NAME = "Modelfile"
_SYSTEM, _USER, _ANSWER = "\ue000", "\ue001", "\ue002"


def text(gguf_file: str, tokenizer: Any) -> str:
    """The Modelfile for the file `gguf_file` beside it."""
    lines = [f"FROM ./{gguf_file}"]
    template = _template(tokenizer) if tokenizer.chat_template else None
    if template is not None:
        lines.append(f'TEMPLATE """{template}"""')
    else:
        lines.append("# No template: Ollama looks for one that it knows in the GGUF file.")
    if tokenizer.eos_token:
        lines.append(f"PARAMETER stop {json.dumps(tokenizer.eos_token, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _template(tokenizer: Any) -> str | None:
    """The chat template as Ollama has it; None where turns are not simply put one after the other."""
    user, answer = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}

    def rendered(*turns: dict[str, str], begin: bool = False) -> str:
        return str(tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=begin))

    try:
        first, two = rendered(user), rendered(user, answer)
        three, asked = rendered(user, answer, user), rendered(user, begin=True)
        with_system = rendered({"role": "system", "content": _SYSTEM}, user)
    # A template may refuse a conversation in its own words.
    except Exception:
        return None
    answer_turn, user_turn = two.removeprefix(first), three.removeprefix(two)
    head, system = first.removesuffix(user_turn), with_system.removesuffix(user_turn)
    opening = asked.removeprefix(first)
    explained = (
        head + user_turn == first
        and system + user_turn == with_system
        and first + opening == asked
        and first + answer_turn + user_turn == three
        and (system.count(_SYSTEM), user_turn.count(_USER), answer_turn.count(_ANSWER)) == (1, 1, 1)
    )
    parts = (head, system, user_turn, answer_turn, opening)
    if not explained or any("{{" in part or '"""' in part for part in parts):
        return None
    return (
        f"{{{{ if .System }}}}{system.replace(_SYSTEM, '{{ .System }}')}{{{{ else }}}}{head}{{{{ end }}}}"
        f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user_turn.replace(_USER, "{{ .Content }}")}'
        f'{{{{ else if eq .Role "assistant" }}}}{answer_turn.replace(_ANSWER, "{{ .Content }}")}'
        f"{{{{ end }}}}{{{{ end }}}}{opening}"
    )
