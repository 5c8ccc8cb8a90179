"""What a table of a tool is made of, and the walk over a file that leaves no key without an entry.

A rule turns one key into entries; it may ask the draft for other keys, and never changes anything. A key that has no
rule is refused with the nearest one that has.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ftctl.importing import values
from ftctl.importing.ours import ours
from ftctl.importing.place import Place
from ftctl.importing.report import Entry, Kind, Report, in_order

T = TypeVar("T")
Apply = Callable[["Draft", str, Any], Entry | list[Entry]]


@dataclass(frozen=True, slots=True)
class Told:
    """A default of a tool that a spec cannot say, in words, and the field that says it here."""

    theirs: str
    field: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a key; and, where it is not ours, what the tool does without the key.

    `default` is a value as the file would give it, which is then written out; a `Told`; or a function of the draft that
    gives one of them, or None where there is nothing to tell.
    """

    apply: Apply
    default: Any = None


@dataclass(frozen=True, slots=True)
class Check:
    """A combination of keys that the tool itself refuses: the key to blame, when, and why."""

    key: str
    wrong: Callable[[Draft], bool]
    why: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose files are read: its keys with their rules, other spellings of them, and what it refuses itself."""

    name: str
    title: str
    table: Mapping[str, Rule]
    stage: Callable[[Draft], str]
    method: Callable[[Draft], str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    # Beginnings of names of keys that are all alike, e.g. of a tracker's.
    families: Mapping[str, Rule] = field(default_factory=dict)
    checks: Sequence[Check] = ()

    def rule(self, key: str) -> Rule | None:
        """The rule of a key, by its name or by its family."""
        return self.table.get(key) or next((r for start, r in self.families.items() if key.startswith(start)), None)

    def spelled(self, key: str) -> str:
        """The tool's own name for a key of the table."""
        return next((name for name, meant in self.aliases.items() if meant == key), key)


@dataclass(frozen=True, slots=True)
class Draft:
    """The keys of one file by the names of the table, as rules ask for them."""

    tool: Tool
    given: Mapping[str, Any]
    place: Place
    # Files with further settings, by what they are, e.g. "dataset_info".
    files: Mapping[str, Any] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        """Whether the file says something about a key."""
        return self.given.get(key) is not None

    def get(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """The value of a key, `default` if it is not there or wrong: its own rule tells what is wrong."""
        if not self.has(key):
            return default
        try:
            return read(self.given[key])
        except ValueError:
            return default

    def on(self, key: str) -> bool:
        """Whether a switch is on."""
        return self.get(key, values.flag, False)

    @property
    def stage(self) -> str:
        """The stage by its name here; empty if there is none."""
        return self.tool.stage(self)

    @property
    def method(self) -> str:
        """The method by its name here; empty if there is none."""
        return self.tool.method(self)

    @property
    def continues(self) -> bool:
        """Whether an adapter is trained on, instead of a new one."""
        return self.has("adapter_name_or_path") and not self.on("create_new_adapter")

    @property
    def devices(self) -> int:
        """The number of GPUs that the file itself speaks of, else 1."""
        none: list[str] = []
        visible = self.get("$CUDA_VISIBLE_DEVICES", values.words, none)
        return max(1, self.get("$NPROC_PER_NODE", values.integer, len(visible)))


def run(tool: Tool, keys: Mapping[str, Any], place: Place, files: Mapping[str, Any] | None = None) -> Report:
    """What becomes of each key of a file, and the spec they make together."""
    given: dict[str, Any] = {}
    entries: list[Entry] = []
    for name, value in keys.items():
        key = tool.aliases.get(name, name)
        if given.get(key) is not None and value is not None:
            entries.append(refuse(name, value, f"says the same as {tool.spelled(key)}", "keep one of them"))
        elif value is not None or key not in given:
            given[key] = value
    draft = Draft(tool, given, place, files or {})
    blamed = {check.key: check for check in reversed(tool.checks) if check.wrong(draft)}
    for name, value in keys.items():
        key = tool.aliases.get(name, name)
        if given.get(key) is value or value is None:
            entries += [_named(entry, key, name) for entry in _become(draft, key, value, blamed.get(key))]
    for key, rule in tool.table.items():
        if not draft.has(key) and rule.default is not None:
            entries += _by_default(draft, key, rule)
    for key, check in blamed.items():
        if not draft.has(key):
            entries.append(refuse(tool.spelled(key), None, check.why, "change one of them"))
    spec = _spec(entries)
    entries += _missing(tool, given, spec)
    return Report(tool.name, in_order(entries), spec)


def _missing(tool: Tool, given: Mapping[str, Any], spec: Mapping[str, Any]) -> list[Entry]:
    """What no training can do without, if the file does not speak of it."""
    there = {"model_name_or_path": "model" in spec, "dataset": "data" in spec and "train" in spec["data"]}
    told = {key for key in there if given.get(key) is not None}
    if given.get("pretraining_dataset") is not None:
        told.add("dataset")
    return [
        refuse(tool.spelled(key), None, "is missing: there is nothing to train", f"--set {tool.spelled(key)}=…")
        for key in there
        if not there[key] and key not in told
    ]


def _become(draft: Draft, key: str, value: Any, check: Check | None) -> list[Entry]:
    """The entries for a key that the file gives."""
    rule = draft.tool.rule(key)
    if rule is None:
        near = difflib.get_close_matches(key, draft.tool.table, n=1)
        hint = f"; did you mean {draft.tool.spelled(near[0])}?" if near else ""
        return [refuse(key, value, f"is no key that is known of {draft.tool.title}{hint}", "correct or remove it")]
    if value is None:
        return [ignore(key, value, "empty: as if it were not there")]
    if isinstance(value, str) and "${" in value:
        return [refuse(key, value, "is computed when the tool starts", "write the value itself")]
    if check:
        return [refuse(key, value, check.why, "change one of them")]
    try:
        return _listed(rule.apply(draft, key, value))
    except ValueError as error:
        return [refuse(key, value, str(error), "correct the value")]


def _by_default(draft: Draft, key: str, rule: Rule) -> list[Entry]:
    """The entries for a key that is not in the file, where what the tool does then is not what happens here."""
    default = rule.default(draft) if callable(rule.default) else rule.default
    name = draft.tool.spelled(key)
    if default is None:
        return []
    if isinstance(default, Told):
        return [differ(name, default.theirs, default.field)]
    try:
        found = _listed(rule.apply(draft, key, default))
    except ValueError:
        # It follows from another key, whose own rule tells what is wrong with it.
        return []
    return [replace(entry, key=name, value=None) for entry in found if entry.kind is Kind.REFUSED] + [
        replace(entry, key=name, kind=Kind.DEFAULTED, ours=ours(entry.field), text=_and(entry.text, "written out"))
        for entry in found
        if entry.kind in (Kind.KEPT, Kind.MAPPED)
    ]


def _and(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _listed(found: Entry | list[Entry]) -> list[Entry]:
    return found if isinstance(found, list) else [found]


def _named(entry: Entry, key: str, name: str) -> Entry:
    """The entry under the name that stands in the file."""
    if entry.key != key:
        return entry
    kind = Kind.MAPPED if entry.kind is Kind.KEPT and name != key else entry.kind
    return replace(entry, key=name, kind=kind)


def _spec(entries: Iterable[Entry]) -> dict[str, Any]:
    """The fields that entries have written, as a mapping."""
    spec: dict[str, Any] = {}
    for entry in entries:
        if entry.new is None or entry.kind in (Kind.IGNORED, Kind.REFUSED):
            continue
        node, parts = spec, entry.field.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        if entry.new == {}:
            node.setdefault(parts[-1], {})
        else:
            node[parts[-1]] = entry.new
    return spec


def write(key: str, value: Any, path: str, new: Any, text: str = "") -> Entry:
    """An entry for a value that stands in the spec: kept if neither the name nor the value has changed."""
    same = path.rpartition(".")[2] == key and (new == value or values.is_number(value, new))
    return Entry(key, value, Kind.KEPT if same else Kind.MAPPED, path, new, text=text)


def ignore(key: str, value: Any, why: str) -> Entry:
    """An entry for a key without which the training and its result are the same."""
    return Entry(key, value, Kind.IGNORED, text=why)


def refuse(key: str, value: Any, why: str, instead: str) -> Entry:
    """An entry for a key without which the training or its result would be another one."""
    return Entry(key, value, Kind.REFUSED, text=why, instead=instead)


def differ(key: str, theirs: Any, path: str, text: str = "") -> Entry:
    """An entry for a difference that nothing is written about."""
    return Entry(key, theirs, Kind.DEFAULTED, path, ours=ours(path), text=text)


def to(path: str, read: values.Reader, text: str = "", *, default: Any = None) -> Rule:
    """The value as `read` reads it goes to a field."""
    return Rule(lambda draft, key, value: write(key, value, path, read(value), text), default)


def to_adapter(name: str, read: values.Reader, *, default: Any = None) -> Rule:
    """The value goes to a field of the adapter, below lora or qlora; other methods have none."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        below = {"lora": "lora", "qlora": "qlora.lora"}.get(draft.method)
        if below is None:
            return ignore(key, value, f"{draft.method or 'this method'} has no adapter")
        if draft.continues and name != "dropout":
            return ignore(key, value, "the adapter that is trained on has its own")
        return write(key, value, f"{below}.{name}", read(value))

    return Rule(apply, default)


def ignored(why: str) -> Rule:
    """Whatever the value is, the training is the same without it."""
    return Rule(lambda draft, key, value: ignore(key, value, why))


def refused(why: str, instead: str, unless: Callable[[Any], bool] = values.is_off) -> Rule:
    """The training would be another one, unless the value asks for what happens anyway."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        return ignore(key, value, "as here") if unless(value) else refuse(key, value, why, instead)

    return Rule(apply)


def shuffled() -> Rule:
    """Rows are always shuffled, by the seed."""
    return refused("rows are shuffled by the seed", "set it to true", lambda value: not values.is_off(value))


def choice(path: str, known: Mapping[str, Any], what: str, *, default: Any = None) -> Rule:
    """One of some names goes to a field by its name here; the others are refused."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        name = values.word(value)
        if name not in known:
            return refuse(key, value, f"{what} cannot be trained with yet", f"accepted are {', '.join(known)}")
        return write(key, value, path, known[name])

    return Rule(apply, default)


def with_defaults(table: Mapping[str, Rule], **defaults: Any) -> dict[str, Rule]:
    """The table with other defaults for some keys."""
    return {**table, **{key: replace(table[key], default=default) for key, default in defaults.items()}}


def command(*trains: str) -> Rule:
    """The word after the tool's name on a command line: some train, the others do something else."""

    def apply(draft: Draft, key: str, value: Any) -> Entry:
        if value in trains:
            return ignore(key, value, "a job trains")
        return refuse(key, value, "is no training", f"accepted are {', '.join(trains)}")

    return Rule(apply)
