"""An MLflow server, by its own client: a run found again by a tag with the job's id."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ftclient.enums import JobState
from fttrack.run import Run

_TAG = "finetuned.job"
# What a server takes in one call.
_PARAMS_AT_ONCE = 100
_LONGEST_PARAM = 6000
_ENDS = {JobState.SUCCEEDED: "FINISHED", JobState.CANCELLED: "KILLED"}


class Mlflow:
    """Steps with the time they were made at: told twice, they are the same to it."""

    def __init__(self, run: Run, options: Mapping[str, Any], secret: str) -> None:
        # Read when its first request is made. A follower that fails is started again, so one more try is enough.
        os.environ.update(MLFLOW_HTTP_REQUEST_TIMEOUT="20", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
        if secret:
            os.environ["MLFLOW_TRACKING_TOKEN"] = secret
        from mlflow.tracking import MlflowClient

        uri = str(options["tracking_uri"])
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._experiment(options.get("experiment") or run.project)
        self._id = self._known(experiment, run) or self._new(experiment, run)
        self.place = f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{self._id}"

    def log(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """One call for all figures of a step."""
        from mlflow.entities import Metric

        at = round(time * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, at, step) for name, value in values.items()])

    def close(self, state: JobState) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id, _ENDS.get(state, "FAILED"))

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _known(self, experiment: str, run: Run) -> str | None:
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{run.id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _new(self, experiment: str, run: Run) -> str:
        from mlflow.entities import Param

        tags = {_TAG: run.id, **run.labels}
        made = str(self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id)
        params = [Param(name, str(value)[:_LONGEST_PARAM]) for name, value in run.config.items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(made, params=params[start : start + _PARAMS_AT_ONCE])
        return made
