"""A DAG with the operator of examples/airflow, run by a real Airflow's own interpreter; nothing of pytest is there.

Runs it twice as the same run, the second time with a training that does as it should, and ends another job as a person
would. Prints a line with the state of each run. SPEC, SCRIPT and OTHER are in the environment.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG
from finetuned_airflow import JobEnded, TrainOperator

with DAG("tune") as dag:
    TrainOperator(task_id="train", spec=os.environ["SPEC"])

if __name__ == "__main__":
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for script in (Path(os.environ["SCRIPT"]).read_text(), "{}"):
        Path(os.environ["SCRIPT"]).write_text(script)
        sys.stdout.write(f"RUN {dag.test(run_after=at, logical_date=at).state}\n")
    asyncio.run(JobEnded(os.environ["OTHER"], None).on_kill())
