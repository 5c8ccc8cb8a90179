"""The programs in the clients' page run as they stand there, against a daemon that answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.daemon import FakeDaemon
from tests.support.client import job, training_events

from finetuned.v1 import job_pb2

ROOT = Path(__file__).parents[3]
SECTION = (ROOT / "clients/README.md").read_text().split("\n## The SDK\n")[1].split("\n## ")[0]
PROGRAMS = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)


class Quick(FakeDaemon):
    """Every job it is given has trained already."""

    def CreateJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = super().CreateJob(request, context)
        made = self.jobs[answer.job.id]
        made.state, made.output_path = job_pb2.JOB_STATE_SUCCEEDED, "/out"
        self.events[made.id] = training_events(3)
        return answer


@pytest.mark.parametrize("program", PROGRAMS, ids=["blocking", "loop"])
def test_it_runs(
    program: str,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "job.yaml").write_text("model: {path: m}\ndata: {train: [rows.jsonl]}\n")
    monkeypatch.chdir(tmp_path)
    daemon.stop()
    with Quick(daemon.socket) as quick:
        quick.plan.estimate.peak_bytes = job().estimate.peak_bytes
        monkeypatch.setenv("FTD_ADDRESS", quick.address)
        exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert "/out" in capsys.readouterr().out
    daemon.restart()
