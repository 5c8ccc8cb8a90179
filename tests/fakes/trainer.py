"""A trainer without torch: a real process that keeps the rank contract, for every test of what surrounds a training.

It runs as preparation (attempt 0) and as training, and does what `<first data source>.fake.json` says; without that
file it trains 5 quick steps. Keys, all optional, those marked * also below "prepare" for the preparation:

    steps 5, step_seconds 0.0 *    how long it takes            checkpoint_every 0    steps between checkpoints
    rank 0 *                       which rank misbehaves
    fail_at, oom_at *              step at which it fails       die_without_goodbye * step at which it exits 3, silently
    kill_at *                      step at which SIGKILL hits   hang_at *             step it never finishes
    ignore_sigterm false *         needs SIGKILL                ignore_stop false *   needs SIGTERM
    stubborn_children false *      leaves a child in a session of its own that ignores SIGTERM, and its orphan
    print_lines 0, print_bytes 20 * lines it prints at each step
    fits -1                        largest micro-batch that does not run out of memory at oom_at
    peak_bytes                     what it says it has held at most
    output_bytes                   size of the weights it leaves; without: none

A trial takes 3 steps and keeps nothing, as a real one.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from finetuned.trainer.v1 import trainer_pb2
from finetuned.v1 import data_report_pb2, event_pb2, training_pb2
from fttrain import manifest, rank
from fttrain.failure import Refused
from fttrain.report import Report

ORPHAN = "import os,signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(600)"


class Fake:
    """One rank, told by `script` how to behave."""

    def __init__(self, bootstrap: trainer_pb2.Bootstrap, report: Report, script: dict[str, Any]) -> None:
        self.bootstrap = bootstrap
        self.report = report
        self.script = script
        self.mine = script.get("rank", 0) == rank.number()
        self.steps = int(script.get("steps", 5))
        self.tokens = 0
        if self.mine and script.get("ignore_sigterm"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.mine and script.get("stubborn_children"):
            subprocess.Popen([sys.executable, "-c", ORPHAN], start_new_session=True)

    @property
    def out_of_memory(self) -> event_pb2.FailureClass.ValueType:
        """The class of what runs out where it trains."""
        if self.bootstrap.spec.resources.device == training_pb2.DEVICE_KIND_CPU:
            return event_pb2.FAILURE_CLASS_OUT_OF_HOST_MEMORY
        return event_pb2.FAILURE_CLASS_OUT_OF_GPU_MEMORY

    def at(self, key: str, step: int) -> bool:
        """Whether the script wants `key` at this step of this rank."""
        return self.mine and self.script.get(key) == step

    def misbehave(self, step: int) -> None:
        if self.at("fail_at", step):
            raise RuntimeError(f"the script says to fail at step {step}")
        if self.at("oom_at", step) and self.bootstrap.spec.batch.micro_batch > self.script.get("fits", -1):
            raise Refused(self.out_of_memory, f"out of memory at step {step}")
        if self.at("die_without_goodbye", step):
            os._exit(3)
        if self.at("kill_at", step):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at("hang_at", step):
            while True:
                time.sleep(60)
        for number in range(self.script.get("print_lines", 0)):
            sys.stdout.write(f"step {step} line {number} ".ljust(self.script.get("print_bytes", 20), ".") + "\n")
        time.sleep(self.script.get("step_seconds", 0.0))

    def stop_asked(self) -> bool:
        return rank.stops.asked and not (self.mine and self.script.get("ignore_stop"))

    def step(self, step: int) -> None:
        begin = time.perf_counter()
        self.misbehave(step)
        self.tokens += 128
        seconds = time.perf_counter() - begin
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.report.step(
            event_pb2.StepMetrics(
                step=step,
                epoch=3 * step / self.steps,
                loss=0.5 + 2 * math.exp(-step / 10),
                learning_rate=1e-4 * (1 - step / self.steps),
                grad_norm=1.0,
                tokens=self.tokens,
                tokens_per_second=128 / max(seconds, 1e-6),
                step_seconds=seconds,
                peak_memory_bytes=self.script.get("peak_bytes", own),
            )
        )

    def save(self, step: int) -> None:
        """A checkpoint with its manifest, by rank 0."""
        if rank.number() != 0:
            return
        name = f"checkpoint-{step}"
        folder = Path(self.bootstrap.run_directory) / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "tokens": self.tokens}))
        written = manifest.write(folder, self.bootstrap.job_id, step, manifest.spec_digest(self.bootstrap.spec))
        self.report.checkpoint(event_pb2.CheckpointSaved(step=step, name=name, bytes=manifest.size(written)))

    def resume(self) -> int:
        """Step to go on from."""
        if not self.bootstrap.resume_from:
            return 0
        folder = Path(self.bootstrap.run_directory) / "checkpoints" / self.bootstrap.resume_from
        step = manifest.verify(folder).step
        self.tokens = json.loads((folder / "state.json").read_text())["tokens"]
        return step

    def output(self) -> None:
        """The result: a folder as an adapter has it."""
        if rank.number() != 0:
            return
        folder = Path(self.bootstrap.output_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text("{}")
        if "output_bytes" in self.script:
            (folder / "weights.bin").write_bytes(bytes(self.script["output_bytes"]))
        manifest.write(folder, self.bootstrap.job_id, self.steps, manifest.spec_digest(self.bootstrap.spec))


def train(fake: Fake) -> trainer_pb2.RankResult:
    fake.report.phase(event_pb2.PHASE_LOADING_MODEL)
    done = fake.resume()
    every = fake.script.get("checkpoint_every", 0)
    world = len(fake.bootstrap.device_ids)
    fake.report.started(event_pb2.AttemptStarted(first_step=done, total_steps=fake.steps, world_size=world))
    fake.report.phase(event_pb2.PHASE_TRAINING)
    while done < fake.steps:
        fake.step(done + 1)
        done += 1
        if rank.stops.take_checkpoint():
            fake.save(done)
        if fake.stop_asked():
            if rank.stops.save:
                fake.save(done)
            if rank.stops.keep:
                fake.output()
                word = trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)
                word.stopped_at, word.stopped_of = done, fake.steps
                return word
            return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
        if every and done % every == 0:
            fake.save(done)
    fake.report.phase(event_pb2.PHASE_EXPORTING)
    fake.output()
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)


def try_out(fake: Fake) -> trainer_pb2.RankResult:
    fake.report.notice("trying out")
    for step in range(1, 4):
        fake.step(step)
        if fake.stop_asked():
            return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED)


def chat(fake: Fake) -> trainer_pb2.RankResult:
    """Lives as a chat does; who wants answers listens in its place."""
    fake.report.phase(event_pb2.PHASE_ANSWERING)
    while not fake.stop_asked():
        time.sleep(0.01)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)


def prepare(fake: Fake) -> trainer_pb2.RankResult:
    fake.report.phase(event_pb2.PHASE_TOKENIZING, 0.0)
    for step in range(1, int(fake.script.get("steps", 1)) + 1):
        fake.misbehave(step)
        if fake.stop_asked():
            return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_STOPPED)
    split = data_report_pb2.SplitReport(rows=64, tokens=8192, trained_tokens=4096, longest_row_tokens=128)
    data = data_report_pb2.DataReport(train=split, digest="fake")
    for source in fake.bootstrap.spec.data.train:
        data.sources.add(path=source.path, format=source.format, rows_read=64, rows_used=64)
    folder = Path(fake.bootstrap.prepared_root) / data.digest
    folder.mkdir(parents=True, exist_ok=True)
    fake.report.data(data)
    return trainer_pb2.RankResult(outcome=event_pb2.OUTCOME_COMPLETED, data=data, prepared_directory=str(folder))


def body(bootstrap: trainer_pb2.Bootstrap, report: Report) -> trainer_pb2.RankResult:
    # A job may have rows to evaluate on only, or none at all.
    paths = [Path(f"{each.path}.fake.json") for each in (*bootstrap.spec.data.train, *bootstrap.spec.data.eval)]
    script = json.loads(paths[0].read_text()) if paths and paths[0].exists() else {}
    if bootstrap.attempt == 0:
        return prepare(Fake(bootstrap, report, script.get("prepare", {})))
    fake = Fake(bootstrap, report, script)
    if bootstrap.spec.HasField("chat"):
        return chat(fake)
    return try_out(fake) if bootstrap.probe else train(fake)


if __name__ == "__main__":
    rank.run(body)
