"""The Airflow operator of examples/ in a real Airflow, which `make airflow` brings into an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.daemon import Daemon

from finetuned.v1 import job_service_pb2
from ftclient.specfile import values_of

ROOT = Path(__file__).parents[2]
AIRFLOW = ROOT / "build" / "airflow" / "bin"

# Its database alone takes a quarter of a minute to make.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not AIRFLOW.exists(), reason="there is no Airflow; `make airflow` brings it"),
]


def test_a_run_finds_its_job_again_and_retries_it(tmp_path: Path) -> None:
    with Daemon(tmp_path / "daemon") as daemon:
        spec = daemon.spec({"steps": 5, "fail_at": 3}, max_retries=0)
        (tmp_path / "spec.yaml").write_text(json.dumps(values_of(spec)))
        other = daemon.submit({"steps": 10_000, "step_seconds": 0.02})
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "PYTHONPATH": ":".join(
                str(ROOT / each) for each in ("examples/airflow", "clients/python", "proto/gen/python")
            ),
            "FTD_ADDRESS": f"unix:{daemon.socket}",
            "SPEC": str(tmp_path / "spec.yaml"),
            "SCRIPT": f"{spec.training.data.train[0].path}.fake.json",
            "OTHER": other,
        }
        (tmp_path / "home" / "dags").mkdir(parents=True)
        dag = shutil.copy(ROOT / "tests" / "support" / "airflow_dag.py", tmp_path / "home" / "dags" / "tune.py")
        subprocess.run([AIRFLOW / "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
        ran = subprocess.run([AIRFLOW / "python", dag], env=environment, check=True, capture_output=True, text=True)
        assert [line for line in ran.stdout.splitlines() if line.startswith("RUN")] == ["RUN failed", "RUN success"]
        (job,) = daemon.jobs.ListJobs(job_service_pb2.ListJobsRequest(selector="airflow-dag=tune")).jobs
        assert len(daemon.get(job.id).attempts) == 2
        daemon.wait(other, "CANCELLED")
