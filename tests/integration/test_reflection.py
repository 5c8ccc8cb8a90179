"""Any gRPC client can drive a job: here one that has none of our code, only what the daemon tells of itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.support.daemon import Daemon


class Stranger:
    """Calls methods by name, with values and answers in protobuf's JSON, as grpcurl does."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.known = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.known)

    def call(self, method: str, **values: Any) -> list[dict[str, Any]]:
        """All answers of one call."""
        service, _, name = method.rpartition(".")
        found = self.pool.FindServiceByName(f"finetuned.v1.{service}").methods_by_name[name]
        request = json_format.ParseDict(values, GetMessageClass(found.input_type)())
        kind = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        start = kind(
            f"/{found.containing_service.full_name}/{found.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        answers = start(request, timeout=60)
        return [json_format.MessageToDict(each) for each in (answers if found.server_streaming else [answers])]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as daemon:
        yield daemon


def test_a_whole_job_by_nothing_but_reflection(daemon: Daemon) -> None:
    stranger = Stranger(f"unix:{daemon.socket}")
    assert {"finetuned.v1.JobService", "finetuned.v1.MetricService"} <= set(stranger.known.get_services())
    spec = json_format.MessageToDict(daemon.spec({"steps": 3}, name="stranger", labels={"by": "reflection"}))
    [planned] = stranger.call("JobService.PlanJob", spec=spec)
    assert "violations" not in planned
    [created] = stranger.call("JobService.CreateJob", spec=spec, requestId="once")
    job = created["job"]["id"]
    [waited] = stranger.call("JobService.WaitJob", job=job, timeoutSeconds=60)
    assert (waited["reached"], waited["job"]["state"]) == (True, "JOB_STATE_SUCCEEDED")
    told = stranger.call("MetricService.StreamMetrics", job=job)
    steps = [event["step"]["step"] for message in told for event in message.get("events", ()) if "step" in event]
    assert steps == ["1", "2", "3"]
    [listed] = stranger.call("JobService.ListJobs", selector="by=reflection")
    assert [each["id"] for each in listed["jobs"]] == [job]
    [message] = stranger.call("JobService.WatchJobs", noFollow=True)
    assert [change["transition"]["toState"] for change in message["changes"]][-1] == "JOB_STATE_SUCCEEDED"
    [artifacts] = stranger.call("ArtifactService.ListArtifacts", job=job)
    assert [each["kind"] for each in artifacts["artifacts"]] == ["ARTIFACT_KIND_ADAPTER"]
    stranger.call("JobService.DeleteJob", job=job)
    assert stranger.call("JobService.ListJobs") == [{}]
    stranger.channel.close()
