"""A rank of a training: `python -m fttrain.train`, started by the keeper with a Bootstrap on its standard input.

This module is only the door. It must not import the training stack at its top: the stop signal is watched and a failing
import is reported only because the frame of `rank` stands before torch is loaded.
"""

from __future__ import annotations

import os
import sys
import warnings

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import event_pb2
from fttrain import rank
from fttrain.report import Report


def main() -> None:
    """Lives as a rank and exits."""
    rank.run(body)


# What TRL and transformers import where it is installed, whatever `report_to` says: seconds, threads, telemetry.
_TRACKERS = ("wandb", "mlflow", "trackio", "tensorboard", "swanlab", "comet_ml")


def body(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    """Sets the process up, loads the training stack, does the stage. Raises what `failure.classify` understands."""
    report.phase(event_pb2.PHASE_LOADING_MODEL)
    set_environment(bootstrap)
    # These tell the authors of libraries about each other; a job's log is read by its owner.
    warnings.filterwarnings("ignore", category=FutureWarning)
    hide_trackers()
    from fttrain import inference
    from fttrain.machine import told_as_too_little

    with told_as_too_little(bootstrap):
        if use := inference.of(bootstrap.spec):
            return use(bootstrap, report)
        from fttrain.recipe import train

        return train(bootstrap, report)


def hide_trackers() -> None:
    """Keeps trackers out of a training: they read its journal, from a process of their own."""
    # None makes an import fail, and importlib.util.find_spec find nothing.
    sys.modules.update(dict.fromkeys(_TRACKERS))  # type: ignore[arg-type]


def set_environment(bootstrap: trainer_pb2.Bootstrap) -> None:
    """What libraries read when they are imported: threads, offline unless the host allows hubs, quiet, no telemetry."""
    offline = "0" if bootstrap.allow_hub else "1"
    os.environ.update(
        HF_HUB_OFFLINE=offline,
        HF_DATASETS_OFFLINE=offline,
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        TQDM_DISABLE="1",
        # Rows are tokenised already, and the warning about forks would fill the log.
        TOKENIZERS_PARALLELISM="false",
        # The job says itself which trainers are.
        TRL_EXPERIMENTAL_SILENCE="1",
    )
    if bootstrap.threads:
        os.environ.update(OMP_NUM_THREADS=str(bootstrap.threads), MKL_NUM_THREADS=str(bootstrap.threads))
    if len(bootstrap.device_ids) == 1:
        # A single rank needs no rendezvous; accelerate would make one, and wrap the model, because of these.
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


if __name__ == "__main__":
    main()
