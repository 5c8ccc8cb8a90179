"""The Python SDK of finetuned: submit fine-tuning jobs, follow them live, fetch what they leave.

    from ftclient import SFT, Client, LoRA, training

    spec = training(model="models/base", data="rows.jsonl", stage=SFT(), method=LoRA(rank=16), epochs=3)
    with Client() as ft:
        job = ft.submit(spec, name="support-v3", request_id="my-run-17")
        for event in ft.metrics(job):
            print(event.seq, event.kind)
        print(ft.wait(job).output_path)

Importing it costs nothing: what it offers is loaded at first use, and then grpc and protobuf only.
"""

from __future__ import annotations

# The name that type checkers know; importing it from typing would be most of the time this module takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ftclient.aio import AsyncClient as AsyncClient
    from ftclient.builders import BOFT as BOFT
    from ftclient.builders import CPO as CPO
    from ftclient.builders import DPO as DPO
    from ftclient.builders import GRPO as GRPO
    from ftclient.builders import IA3 as IA3
    from ftclient.builders import KTO as KTO
    from ftclient.builders import OFT as OFT
    from ftclient.builders import ORPO as ORPO
    from ftclient.builders import PPO as PPO
    from ftclient.builders import RLOO as RLOO
    from ftclient.builders import SFT as SFT
    from ftclient.builders import AdaLoRA as AdaLoRA
    from ftclient.builders import Chat as Chat
    from ftclient.builders import Distill as Distill
    from ftclient.builders import Evaluate as Evaluate
    from ftclient.builders import Export as Export
    from ftclient.builders import Freeze as Freeze
    from ftclient.builders import Full as Full
    from ftclient.builders import LoRA as LoRA
    from ftclient.builders import PrefixTuning as PrefixTuning
    from ftclient.builders import Pretrain as Pretrain
    from ftclient.builders import PromptTuning as PromptTuning
    from ftclient.builders import PTuning as PTuning
    from ftclient.builders import QLoRA as QLoRA
    from ftclient.builders import Reward as Reward
    from ftclient.builders import VeRA as VeRA
    from ftclient.builders import training as training
    from ftclient.changes import JobChange as JobChange
    from ftclient.client import Client as Client
    from ftclient.enums import JobState as JobState
    from ftclient.errors import AlreadyExists as AlreadyExists
    from ftclient.errors import Ambiguous as Ambiguous
    from ftclient.errors import ApiError as ApiError
    from ftclient.errors import AuthError as AuthError
    from ftclient.errors import ContextError as ContextError
    from ftclient.errors import Corrupted as Corrupted
    from ftclient.errors import CursorTooOld as CursorTooOld
    from ftclient.errors import DataRefused as DataRefused
    from ftclient.errors import DeadlineExceeded as DeadlineExceeded
    from ftclient.errors import FtError as FtError
    from ftclient.errors import InvalidRequest as InvalidRequest
    from ftclient.errors import InvalidSpec as InvalidSpec
    from ftclient.errors import JobCancelled as JobCancelled
    from ftclient.errors import JobFailed as JobFailed
    from ftclient.errors import LimitReached as LimitReached
    from ftclient.errors import NotFound as NotFound
    from ftclient.errors import NotPrepared as NotPrepared
    from ftclient.errors import SpecFileError as SpecFileError
    from ftclient.errors import TransferError as TransferError
    from ftclient.errors import Unavailable as Unavailable
    from ftclient.errors import WaitTimeout as WaitTimeout
    from ftclient.errors import WrongState as WrongState
    from ftclient.events import EvaluationMetrics as EvaluationMetrics
    from ftclient.events import Event as Event
    from ftclient.events import LogLine as LogLine
    from ftclient.events import StepMetrics as StepMetrics
    from ftclient.history import History as History
    from ftclient.results import Explanation as Explanation
    from ftclient.results import Job as Job
    from ftclient.results import Plan as Plan
    from ftclient.specfile import load_spec as load_spec
    from ftclient.stored import Artifact as Artifact
    from ftclient.stored import Dataset as Dataset

# Held equal to the distribution's version by a test; importlib.metadata takes longer than all of `ftctl version`.
__version__ = "0.1.0"

_HOMES = {
    "aio": ("AsyncClient",),
    "builders": (
        "SFT",
        "Pretrain",
        "DPO",
        "Reward",
        "KTO",
        "ORPO",
        "CPO",
        "GRPO",
        "RLOO",
        "PPO",
        "Distill",
        "Evaluate",
        "Export",
        "Chat",
        "LoRA",
        "QLoRA",
        "Full",
        "Freeze",
        "AdaLoRA",
        "VeRA",
        "OFT",
        "BOFT",
        "IA3",
        "PrefixTuning",
        "PromptTuning",
        "PTuning",
        "training",
    ),
    "changes": ("JobChange",),
    "client": ("Client",),
    "enums": ("JobState",),
    "errors": (
        "AlreadyExists",
        "Ambiguous",
        "ApiError",
        "AuthError",
        "ContextError",
        "Corrupted",
        "CursorTooOld",
        "DataRefused",
        "DeadlineExceeded",
        "FtError",
        "InvalidRequest",
        "InvalidSpec",
        "JobCancelled",
        "JobFailed",
        "LimitReached",
        "NotFound",
        "NotPrepared",
        "SpecFileError",
        "TransferError",
        "Unavailable",
        "WaitTimeout",
        "WrongState",
    ),
    "events": ("EvaluationMetrics", "Event", "LogLine", "StepMetrics"),
    "results": ("Explanation", "Job", "Plan"),
    "history": ("History",),
    "stored": ("Artifact", "Dataset"),
    "specfile": ("load_spec",),
}
_MODULES = {name: f"ftclient.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ftclient' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
