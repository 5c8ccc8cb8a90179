"""Which rows a stage can train on, and which columns they may have."""

from __future__ import annotations

from collections.abc import Iterator

from ftd.datasets import Columns, DataSource, Format, Speakers
from ftd.inference import Chat, Evaluate, Export
from ftd.limits import ending
from ftd.online import Distill, Grpo, Ppo, Rloo
from ftd.spec import DeviceKind, TrainingSpec, choice_name
from ftd.stages import Cpo, Dpo, Kto, Orpo, Pretrain, Reward, Sft, Stage
from ftd.validate.problems import Problem, Rule, listed

_PROMPTS = (Format.PROMPT, Format.ALPACA, Format.SHAREGPT, Format.MESSAGES, Format.PROMPT_COMPLETION)
_TURNS_AND_TEXTS = (Format.ALPACA, Format.SHAREGPT, Format.MESSAGES, Format.PROMPT_COMPLETION, Format.TEXT)
STAGE_FORMATS: dict[type[Stage], tuple[Format, ...]] = {
    Sft: _TURNS_AND_TEXTS,
    Pretrain: (Format.TEXT,),
    Dpo: (Format.PREFERENCE,),
    Reward: (Format.PREFERENCE,),
    Kto: (Format.KTO,),
    Orpo: (Format.PREFERENCE,),
    Cpo: (Format.PREFERENCE,),
    Grpo: _PROMPTS,
    Rloo: _PROMPTS,
    Ppo: _PROMPTS,
    Distill: _PROMPTS,
    Evaluate: _TURNS_AND_TEXTS,
    Export: (),
    Chat: (),
}
FORMAT_COLUMNS: dict[Format, tuple[str, ...]] = {
    Format.ALPACA: ("instruction", "input", "output", "system", "history", "tools"),
    Format.SHAREGPT: ("messages", "role", "content", "system", "tools"),
    Format.MESSAGES: ("messages", "role", "content", "system", "tools"),
    Format.PROMPT_COMPLETION: ("prompt", "completion"),
    Format.TEXT: ("text",),
    Format.PREFERENCE: (
        "prompt",
        "messages",
        "instruction",
        "input",
        "system",
        "history",
        "role",
        "content",
        "chosen",
        "rejected",
        "tools",
    ),
    Format.PROMPT: ("prompt", "answer", "role", "content", "system", "tools"),
    Format.KTO: (
        "label",
        "prompt",
        "completion",
        "messages",
        "instruction",
        "input",
        "output",
        "system",
        "history",
        "role",
        "content",
        "tools",
    ),
}
PACKED_STAGES = (Sft, Pretrain)
_OF_CONVERSATIONS = ("chat_template_path", "template", "default_system", "enable_thinking", "thinking")


_OF_TURNS = (Format.SHAREGPT, Format.MESSAGES, Format.PREFERENCE, Format.KTO, Format.PROMPT)


def has_evaluation_data(training: TrainingSpec) -> bool:
    """Whether there is, or will be, anything to evaluate on."""
    data = training.data
    return bool(data.eval or data.eval_split or any(source.eval_split for source in data.train))


def source_format(source: DataSource) -> Format | None:
    """The format of a source's rows where it is known without reading it."""
    return Format.TEXT if _is_text_file(source) and source.format is None else source.format


def _data(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    data = training.data
    if not data.train:
        yield "data.train", "is empty; accepted is at least one source with a path"
    if data.eval and data.eval_split:
        yield "data.eval_split", "stands beside data.eval; accepted is one of the two"
    stage = training.stage or Sft()
    if data.packing and not isinstance(stage, PACKED_STAGES):
        name = choice_name(stage)
        yield "data.packing", f"is on, but the rows of {name} cannot be packed; leave it out with {name}"
    for name in _OF_CONVERSATIONS if isinstance(stage, Pretrain) else ():
        if getattr(data, name) is not None:
            yield f"data.{name}", "is given, but pretrain renders no conversations; leave it out"


def _template(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    if training.data.template is not None and training.data.chat_template_path is not None:
        yield "data.template", "stands beside data.chat_template_path; accepted is one of the two"


def _sources(training: TrainingSpec, _: DeviceKind) -> Iterator[Problem]:
    stage = training.stage or Sft()
    if not STAGE_FORMATS[type(stage)]:
        return
    for name, sources in (("train", training.data.train), ("eval", training.data.eval)):
        for index, source in enumerate(sources):
            for field, text in (*_source(source, stage), *_drawn(source), *_speakers(source)):
                yield f"data.{name}[{index}].{field}", text
    yield from _evaluated(training)


def _source(source: DataSource, stage: Stage) -> Iterator[Problem]:
    formats = STAGE_FORMATS[type(stage)]
    if source.format is not None and _is_text_file(source) and source.format is not Format.TEXT:
        yield "format", f"is {source.format}, but a .txt file has only text; accepted is text, or another kind of file"
    elif (known := source_format(source)) is not None and known not in formats:
        wanted = listed(formats, "or")
        yield "format", f"is {known}, whose rows {choice_name(stage)} cannot train on; accepted is {wanted}"
    yield from _columns(source, formats)


def _drawn(source: DataSource) -> Iterator[Problem]:
    if source.shuffle and source.max_samples is None:
        yield "shuffle", "is on, but all rows are taken; accepted with max_samples"
    if source.shuffle and source.num_samples is not None:
        yield "shuffle", "stands beside num_samples, which draws rows by itself; leave it out"


def _speakers(source: DataSource) -> Iterator[Problem]:
    if source.speakers is None:
        return
    names = [getattr(source.speakers, name) for name in Speakers.__dataclass_fields__]
    given = [name for name in names if name is not None]
    if len(set(given)) < len(given) or not all(given):
        yield "speakers", f"names {listed(given, 'and')}; accepted is another name for each"
    if source.format is not None and source.format not in _OF_TURNS:
        accepted = listed([str(each) for each in _OF_TURNS], "or")
        yield "speakers", f"is given, but the format {source.format} has no turns; accepted with {accepted}"


def _evaluated(training: TrainingSpec) -> Iterator[Problem]:
    data = training.data
    names = [source.name for source in data.eval]
    for index, source in enumerate(data.eval):
        if source.name is not None and source.name in names[:index]:
            yield f"data.eval[{index}].name", f"is {source.name} again; accepted is each name once"
        if source.eval_split is not None:
            yield f"data.eval[{index}].eval_split", "is given, but all its rows are evaluated on; leave it out"
    for index, source in enumerate(data.train):
        if source.eval_split and data.eval:
            yield f"data.train[{index}].eval_split", "stands beside data.eval; accepted is one of the two"


def _columns(source: DataSource, formats: tuple[Format, ...]) -> Iterator[Problem]:
    given = [n for n in Columns.__dataclass_fields__ if n != "only" and getattr(source.columns, n, None) is not None]
    if given and _is_text_file(source):
        yield "columns", "is given, but a .txt file has no columns; leave it out"
        return
    if source.format is not None:
        known = FORMAT_COLUMNS[source.format]
        for name in given:
            if name not in known:
                yield f"columns.{name}", f"is no column of the format {source.format}; it has {listed(known, 'and')}"
    elif not any(set(given) <= set(FORMAT_COLUMNS[f]) for f in formats):
        accepted = "; ".join(f"{f}: {', '.join(FORMAT_COLUMNS[f])}" for f in formats)
        yield "columns", f"names {listed(given, 'and')}, which no format has together; accepted is {accepted}"


def _is_text_file(source: DataSource) -> bool:
    return ending(source.files[0] if source.files else source.path) == ".txt"


# What holds for rows whatever is done with them.
SOURCES: tuple[Rule, ...] = (_template, _sources)
RULES: tuple[Rule, ...] = (_data, *SOURCES)
