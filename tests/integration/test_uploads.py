"""Data sets sent to a real daemon: whole, cut and gone on with, refused, used by jobs and deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest
from tests.support.daemon import Daemon, eventually, refusal

from finetuned.v1 import job_pb2, job_service_pb2, training_pb2, uploaded_data_pb2

ROWS = b'{"text": "a row"}\n' * 1000
SHA256 = hashlib.sha256(ROWS).hexdigest()
FAILED = grpc.StatusCode.FAILED_PRECONDITION
Request = uploaded_data_pb2.UploadDatasetRequest


LIMITS = {"upload_bytes": 50_000, "datasets_bytes": 60_000}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, limits=LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that no test gives a data set."""
    with Daemon(tmp_path_factory.mktemp("empty"), limits=LIMITS) as running:
        yield running


def requests(
    rows: bytes = ROWS,
    *,
    name: str = "rows",
    file: str = "rows.jsonl",
    sha256: str = "",
    size: int = -1,
    offset: int = 0,
) -> list[Request]:
    """An upload in pieces of 4000 bytes."""
    size = len(rows) if size < 0 else size
    sha256 = sha256 or hashlib.sha256(rows).hexdigest()
    header = uploaded_data_pb2.UploadHeader(name=name, file=file, sha256=sha256, bytes=size, offset=offset)
    pieces = [rows[at : at + 4000] for at in range(offset, len(rows), 4000)]
    return [Request(header=header), *(Request(data=piece) for piece in pieces)]


def upload(daemon: Daemon, sent: Sequence[Request]) -> uploaded_data_pb2.Dataset:
    return daemon.data.UploadDataset(iter(sent)).dataset


def offset(daemon: Daemon, sha256: str = SHA256) -> int:
    return daemon.data.GetUpload(uploaded_data_pb2.GetUploadRequest(sha256=sha256)).offset


def names(daemon: Daemon) -> list[str]:
    return [each.name for each in daemon.data.ListDatasets(uploaded_data_pb2.ListDatasetsRequest()).datasets]


def delete(daemon: Daemon, name: str) -> None:
    daemon.data.DeleteDataset(uploaded_data_pb2.DeleteDatasetRequest(name=name))


def spec(daemon: Daemon, dataset: str) -> job_pb2.JobSpec:
    made = daemon.spec(hold=True)
    made.training.data.train[0].CopyFrom(training_pb2.DataSource(dataset=dataset, format=training_pb2.FORMAT_TEXT))
    return made


def submit(daemon: Daemon, dataset: str) -> job_pb2.Job:
    return daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=spec(daemon, dataset))).job


def stored(daemon: Daemon) -> list[str]:
    folder = daemon.state / "datasets"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_upload_becomes_a_data_set_that_outlives_the_daemon(daemon: Daemon) -> None:
    sent = upload(daemon, requests())
    assert (sent.name, sent.sha256, sent.bytes, sent.file, sent.jobs) == ("rows", SHA256, len(ROWS), "rows.jsonl", 0)
    daemon.kill()
    daemon.start()
    found = daemon.data.GetDataset(uploaded_data_pb2.GetDatasetRequest(dataset=SHA256)).dataset
    assert found == sent
    assert (daemon.state / "datasets" / SHA256 / "rows.jsonl").read_bytes() == ROWS


def test_an_upload_that_is_cut_goes_on_where_it_was_also_after_a_crash(daemon: Daemon) -> None:
    code, reason, message = refusal(lambda: upload(daemon, requests()[:3]))
    assert (code, reason) == (FAILED, "UPLOAD_INCOMPLETE")
    assert "8000 of 18000 bytes" in message
    daemon.kill()
    daemon.start()
    assert offset(daemon) == 8000
    assert upload(daemon, requests(offset=8000)).sha256 == SHA256
    assert stored(daemon) == [f"{SHA256}/rows.jsonl"]


def test_contents_that_are_there_are_not_sent_again(daemon: Daemon) -> None:
    upload(daemon, requests())
    assert offset(daemon) == len(ROWS)
    upload(daemon, requests(name="again", file="other.txt")[:1])
    assert names(daemon) == ["again", "rows"]
    first, second = stored(daemon)
    folder = daemon.state / "datasets"
    assert (folder / first).samefile(folder / second)
    delete(daemon, "rows")
    assert submit(daemon, "again").resolved.data.train[0].dataset == SHA256


def test_a_later_upload_of_the_same_contents_ends_the_one_before(daemon: Daemon) -> None:
    waiting = iter(requests()[:2])

    def stuck() -> Iterator[Request]:
        yield from waiting
        # A client that is gone and that nobody has missed yet.
        eventually(lambda: first.done(), 30)

    first = daemon.data.UploadDataset.future(stuck())
    eventually(lambda: offset(daemon) == 4000)
    assert upload(daemon, requests(offset=4000)).sha256 == SHA256
    assert refusal(first.result)[:2] == (grpc.StatusCode.ABORTED, "UPLOAD_TAKEN_OVER")


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (requests(sha256="0" * 64), (grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH")),
        (requests(b"x" * 50_001), (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH")),
        (requests(offset=1), (FAILED, "UPLOAD_OFFSET")),
        (requests(size=7), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests(name="Rows"), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests(sha256="../../x"), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests(file="../rows.jsonl"), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests(file="rows.exe"), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests()[1:], (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        (requests() + requests(), (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
        ([], (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")),
    ],
    ids=[
        "checksum",
        "large",
        "gap",
        "longer",
        "name",
        "digest",
        "folder",
        "kind",
        "no header",
        "two headers",
        "nothing",
    ],
)
def test_what_cannot_be_taken_is_refused_and_leaves_no_data_set(
    empty: Daemon, sent: list[Request], refused: tuple[grpc.StatusCode, str]
) -> None:
    assert refusal(lambda: upload(empty, sent))[:2] == refused
    assert names(empty) == []
    assert f".parts/{'0' * 64}" not in stored(empty)


def test_all_data_sets_together_have_a_bound_that_parts_count_towards(daemon: Daemon) -> None:
    upload(daemon, requests(b"y" * 40_000, name="large", file="y.txt"))
    refusal(lambda: upload(daemon, requests()[:2]))
    third = requests(b"z" * 17_000, name="third", file="z.txt")
    code, reason, message = refusal(lambda: upload(daemon, third))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MUCH")
    assert "16000 left" in message
    upload(daemon, requests(offset=4000))
    delete(daemon, "large")
    assert upload(daemon, third).name == "third"


def test_a_name_keeps_its_contents(daemon: Daemon) -> None:
    upload(daemon, requests())
    other = requests(b'{"text": "another"}\n')
    assert refusal(lambda: upload(daemon, other))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "DATASET_EXISTS")
    assert upload(daemon, requests()[:1]).sha256 == SHA256


def test_a_job_keeps_the_contents_it_uses_until_it_has_ended(daemon: Daemon) -> None:
    upload(daemon, requests())
    job = submit(daemon, "rows")
    source = job.resolved.data.train[0]
    assert (source.dataset, list(source.files)) == (SHA256, [str(daemon.state / "datasets" / SHA256 / "rows.jsonl")])
    assert job.spec.training.data.train[0].dataset == "rows"
    code, reason, message = refusal(lambda: delete(daemon, "rows"))
    assert (code, reason) == (FAILED, "DATASET_NEEDED")
    assert job.id in message
    daemon.jobs.CancelJob(job_service_pb2.CancelJobRequest(job=job.id))
    delete(daemon, "rows")
    assert stored(daemon) == []
    retry = job_service_pb2.RetryJobRequest(job=job.id)
    fields: list[str] = []
    refusal(lambda: daemon.jobs.RetryJob(retry), fields)
    assert fields == ["training.data.train[0].dataset"]
    upload(daemon, requests(name="again"))
    daemon.jobs.RetryJob(retry)
    daemon.wait(job.id, "SUCCEEDED")
    delete(daemon, "again")
    assert refusal(lambda: delete(daemon, "rows"))[:2] == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")


def test_a_job_trains_on_a_data_set(daemon: Daemon) -> None:
    upload(daemon, requests())
    wanted = spec(daemon, SHA256)
    wanted.hold = False
    job = daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=wanted)).job
    daemon.wait(job.id, "SUCCEEDED")


def test_a_source_that_names_a_data_set_wrongly_is_refused_by_its_field(daemon: Daemon) -> None:
    upload(daemon, requests())
    wanted = spec(daemon, "rwos")
    wanted.training.data.eval.add(dataset="rows", path="/rows.jsonl")
    fields: list[str] = []
    refusal(lambda: daemon.jobs.CreateJob(job_service_pb2.CreateJobRequest(spec=wanted)), fields)
    assert sorted(fields) == ["training.data.eval[0].path", "training.data.train[0].dataset"]


def test_a_list_comes_in_pages(daemon: Daemon) -> None:
    for name in ("c", "a", "b"):
        upload(daemon, requests(name=name))
    page = daemon.data.ListDatasets(uploaded_data_pb2.ListDatasetsRequest(page_size=2))
    rest = daemon.data.ListDatasets(uploaded_data_pb2.ListDatasetsRequest(page_token=page.next_page_token))
    assert [[each.name for each in part.datasets] for part in (page, rest)] == [["a", "b"], ["c"]]
    assert rest.next_page_token == ""
