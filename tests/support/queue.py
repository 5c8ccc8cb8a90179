"""A busy host as a daemon would tell of it, for the clients' tests: devices, queue, projects, an explanation, plans.

Times are counted from now, with some seconds to spare, so that what is shown of them does not change while a test runs.
"""

from __future__ import annotations

import time

from google.protobuf.timestamp_pb2 import Timestamp
from tests.support.client import START

from finetuned.v1 import host_service_pb2, job_pb2, job_service_pb2

GIB = 1 << 30
HOUR = 3600
GPUS = [f"GPU-8f2e1b6c-0000-4000-8000-00000000000{index}" for index in range(3)]


def host() -> host_service_pb2.GetHostResponse:
    """Three GPUs: one shared with a process that is not ours, one full, one in quarantine; and the CPU."""
    answer = host_service_pb2.GetHostResponse(
        hostname="gpu1", version="0.1.0", state_directory="/var/lib/finetuned", state_free_bytes=10**12
    )
    answer.start_time.seconds = START
    answer.inventory = "nvml 570.1"
    answer.jobs_by_state["running"] = 2
    for index, used in enumerate((30, 61, 0)):
        gpu = answer.devices.add(id=GPUS[index], kind=1, name="NVIDIA H100 80GB HBM3", index=index)
        gpu.total_bytes, gpu.used_bytes = 80 * GIB, used * GIB
        gpu.utilization_percent, gpu.temperature_celsius, gpu.power_watts = (97, 100, 0)[index], 64, 412
    first, second, third = answer.devices
    first.uses.add(job="k7m2p9x4qd", used_bytes=20 * GIB, reserved_bytes=24 * GIB)
    first.uses.add(pid=4711, process_name="python", used_bytes=9 * GIB)
    second.uses.add(job="f5nopqrstu", used_bytes=60 * GIB, reserved_bytes=62 * GIB)
    second.max_jobs = 1
    third.unfit, third.quarantined = "in quarantine: Xid 79: the GPU has fallen off the bus", True
    answer.devices.add(id="cpu", kind=2, name="AMD EPYC 9554", index=-1, total_bytes=256 * GIB, used_bytes=40 * GIB)
    return answer


def queued() -> list[host_service_pb2.QueuedJob]:
    """A job that waits for memory, one behind it, and one of which nobody can say when it starts."""
    needs = "needs 31.2 GiB on 1 GPU; best is GPU 0 with 22.4 GiB free, 24.0 GiB promised to job k7m2p9x4qd, "
    first = host_service_pb2.QueuedJob(
        job="w2abcdefgh", name="dpo-1", project="nlp", priority=10, position=1, waits_for=["k7m2p9x4qd"]
    )
    first.reason.code = job_pb2.REASON_CODE_NOT_ENOUGH_FREE_MEMORY
    first.reason.message = needs + "9.0 GiB held by pid 4711 (python), not ours"
    first.devices, first.bytes_per_device = 1, round(31.2 * GIB)
    first.forecast.CopyFrom(forecast(1, 2, 3))
    first.duration.CopyFrom(duration())
    second = host_service_pb2.QueuedJob(
        job="q4zyxwvuts", name="support-v4-with-a-rather-long-name", project="cx", position=2, waits_for=["w2abcdefgh"]
    )
    second.reason.message = "needs 60.0 GiB on each of 2 GPUs; nothing may pass job w2abcdefgh, which goes first"
    second.devices, second.bytes_per_device = 2, 60 * GIB
    second.forecast.CopyFrom(forecast(0.5, 6, 30))
    third = host_service_pb2.QueuedJob(job="n8mlkjihgf", name="night-run", project="cx", priority=-5, position=3)
    third.reason.message = "starts after job q4zyxwvuts has succeeded"
    third.devices, third.bytes_per_device = 1, 800 << 20
    for waits, job in enumerate((first, second, third), start=1):
        job.queue_time.seconds = int(time.time()) - waits * HOUR - 1800
    return [first, second, third]


def explanation() -> job_service_pb2.ExplainJobResponse:
    """Of the first job in the queue; the job itself is `tests.support.client.job`'s or any other."""
    (first, *_), answer = queued(), job_service_pb2.ExplainJobResponse()
    answer.position, answer.waits_for[:] = 1, first.waits_for
    answer.forecast.CopyFrom(first.forecast)
    answer.duration.CopyFrom(first.duration)
    answer.order.extend(["priority 10", "moved before all others of its priority", "needs 3.17 device-hours"])
    says = ["22.4 GiB free of the 31.2 GiB it needs; 9.0 GiB held by pid 4711 (python), not ours"]
    says += ["one job at a time", "in quarantine: Xid 79: the GPU has fallen off the bus"]
    for index, message in enumerate(says):
        answer.devices.add(device=GPUS[index], label=f"GPU {index}", message=message)
    return answer


def eased(job: job_pb2.Job) -> job_pb2.Job:
    """The job after a trial and two attempts: the first ran out of memory, the second was stopped."""
    job.estimate.CopyFrom(estimate())
    for number, (peak, batch) in enumerate(((21.5, 8), (31.9, 8), (24.75, 4)), start=1):
        attempt = job.attempts.add(number=number, devices=[GPUS[0]], micro_batch=batch, outcome=1)
        attempt.start_time.seconds, attempt.end_time.seconds = START, START + 90 * number
        attempt.peak_memory_bytes, attempt.reserved_bytes = round(peak * GIB), 32 * GIB
        attempt.estimated_bytes, attempt.step_seconds = 28 * GIB, 0.7
    probe, failed, last = job.attempts
    probe.probe = True
    failed.outcome, failed.failure.failure_class, failed.step_seconds = 3, 1, 0
    last.gradient_checkpointing, last.resumed_from = True, "checkpoint-10"
    last.outcome = 2
    return job


def estimate() -> job_pb2.MemoryEstimate:
    """Of a LoRA training of a model with 7 billion parameters."""
    found = job_pb2.MemoryEstimate(
        peak_bytes=28 * GIB,
        reserve_bytes=round(31.2 * GIB),
        peak_moment="loss",
        uncertainty=0.08,
        sequence_length=2048,
        basis="arithmetic for llama",
        host_bytes=6 * GIB,
        disk_bytes=2 * GIB,
    )
    terms = (("weights", 13.5, "bf16"), ("adapters", 0.15, "rank 16"), ("optimizer states", 0.3, "AdamW, fp32"))
    terms += (("saved activations", 6.2, "recomputed layer by layer"), ("logits", 7.85, "fp32, 2048 x 32000 x 8"))
    for name, size, note in terms:
        found.terms.add(name=name, bytes=round(size * GIB), note=note)
    return found


def plan() -> job_service_pb2.PlanJobResponse:
    """Valid; it would wait."""
    answer = job_service_pb2.PlanJobResponse(total_steps=1200, tokens=3_100_000)
    answer.estimate.CopyFrom(estimate())
    answer.resolved.seed = 42
    answer.wait_reason.message = queued()[0].reason.message
    answer.forecast.CopyFrom(forecast(1, 2, 3))
    answer.duration.CopyFrom(duration())
    return answer


def too_large() -> job_service_pb2.PlanJobResponse:
    """Valid, but for a larger host; two changes would help."""
    answer = plan()
    answer.ClearField("forecast")
    answer.wait_reason.code = job_pb2.REASON_CODE_DEVICE_MISSING
    answer.wait_reason.message = (
        "needs 120 GiB on 1 GPU; of 3 GPUs 0 can ever hold that, the largest is GPU 0 with 80.0 GiB"
    )
    batch = answer.fixes.add(description="micro-batch 2 instead of 8, at the same global batch")
    batch.changes["training.batch.micro_batch"] = "2"
    batch.estimate.reserve_bytes, batch.estimate.uncertainty = round(62.4 * GIB), 0.08
    both = answer.fixes.add(description="recomputation and QLoRA")
    both.changes.update({"training.compute.gradient_checkpointing": "true", "training.qlora": "{}"})
    both.estimate.reserve_bytes = 14 * GIB
    return answer


def projects() -> list[host_service_pb2.ProjectUse]:
    """One with a quota, one without."""
    nlp = host_service_pb2.ProjectUse(
        project="nlp", weight=2, usage=12.4 * HOUR, usage_share=0.62, running_jobs=2, queued_jobs=5
    )
    nlp.devices, nlp.memory_bytes = 3, 96 * GIB
    nlp.quota.devices, nlp.quota.running, nlp.quota.queued, nlp.quota.memory_bytes = 4, 2, 20, 160 * GIB
    cx = host_service_pb2.ProjectUse(project="cx", weight=1, usage=7.6 * HOUR, usage_share=0.38, queued_jobs=1)
    return [nlp, cx]


def forecast(earliest: float, expected: float, latest: float) -> job_pb2.Forecast:
    """So many hours from now."""
    ahead = {"earliest": earliest, "expected": expected, "latest": latest}
    return job_pb2.Forecast(**{name: Timestamp(seconds=int(time.time() + h * HOUR) + 20) for name, h in ahead.items()})


def duration() -> job_pb2.Duration:
    """Three hours and ten minutes."""
    return job_pb2.Duration(seconds=11_400, uncertainty=0.2, basis="4 earlier runs of this shape")
