"""The writer in the trainers and the reader in the daemon share a format and no code: they are held together here.

Whatever is cut or flipped, a reader gives out a beginning of what was written, never anything else.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetuned.v1 import event_pb2, metric_service_pb2
from ftd import journal as reading
from ftd.journal import JournalCorrupt, JournalReader
from fttrain import journal as writing
from fttrain.journal import JournalDamaged, JournalWriter

# Around the lengths at which the length itself needs one byte more.
TEXTS = st.lists(
    st.sampled_from([0, 1, 30, 117, 118, 119, 125, 126, 127, 128, 300, 16_370, 16_380, 20_000]), max_size=8
)
IN_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def write(path: Path, lengths: list[int]) -> list[event_pb2.TrainingEvent]:
    path.unlink(missing_ok=True)
    events = [notice(index, length) for index, length in enumerate(lengths)]
    with JournalWriter(path) as writer:
        for event in events:
            writer.append(event)
    return events


def notice(attempt: int, length: int = 5) -> event_pb2.TrainingEvent:
    return event_pb2.TrainingEvent(attempt=attempt, notice=event_pb2.Notice(text="x" * length))


def read_all(reader: JournalReader, after_seq: int = 0, limit: int = 3) -> Iterator[event_pb2.TrainingEvent]:
    """Every event there is; raises what the reader raises, after the events before it."""
    at_end = False
    while (run := reader.read(after_seq, limit)).count:
        assert not at_end
        at_end = run.at_end
        events = metric_service_pb2.StreamMetricsResponse.FromString(run.data).events
        assert (run.first_seq, run.count) == (after_seq + 1, len(events))
        yield from events
        after_seq = run.last_seq
    assert run.at_end


@IN_FOLDER
@given(lengths=TEXTS, after=st.integers(0, 8), limit=st.integers(1, 9))
def test_what_is_written_is_read_from_any_place(tmp_path: Path, lengths: list[int], after: int, limit: int) -> None:
    events = write(tmp_path / "j", lengths)
    assert list(read_all(JournalReader(tmp_path / "j"), after, limit)) == events[after:]


def test_a_run_is_a_stream_message(tmp_path: Path) -> None:
    write(tmp_path / "j", [3, 200])
    message = metric_service_pb2.StreamMetricsResponse.FromString(JournalReader(tmp_path / "j").read(0, 9).data)
    assert (len(message.events), len(message.crc32)) == (2, 2)


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """The reader stops before the torn record, the next writer cuts it, and then both go on."""
    path = tmp_path / "j"
    events = write(path, [3, 0, 200])
    whole = path.read_bytes()
    ends = [len(frame(event)) for event in events]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        count = sum(sum(ends[: index + 1]) <= size for index in range(len(ends)))
        reader = JournalReader(path)
        assert list(read_all(reader)) == events[:count]
        with JournalWriter(path) as writer:
            writer.append(notice(9))
        assert list(read_all(reader)) == [*events[:count], notice(9)]


def frame(event: event_pb2.TrainingEvent) -> bytes:
    return writing.frame(event.SerializeToString())


@IN_FOLDER
@given(data=st.data())
def test_a_flipped_bit_is_never_read(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "j"
    events = write(path, data.draw(TEXTS.filter(bool)))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    read, damage = [], ""
    try:
        for event in read_all(JournalReader(path)):
            read.append(event)
    except JournalCorrupt as error:
        damage = str(error)
    assert not damage or f"record {len(read) + 1}," in damage
    assert read == events[: len(read)]
    assert len(read) < len(events)


def test_damage_before_the_tail_is_named_by_both(tmp_path: Path) -> None:
    path = tmp_path / "j"
    events = write(path, [3, 3, 3])
    content = bytearray(path.read_bytes())
    content[len(frame(events[0])) + 6] ^= 1
    path.write_bytes(content)
    reader = JournalReader(path)
    assert reader.read(0, 9).count == 1
    with pytest.raises(JournalCorrupt, match=r"^j is damaged at record 2, byte \d+$"):
        reader.read(1, 9)
    with pytest.raises(JournalDamaged, match=r"^j is damaged at byte \d+$"):
        JournalWriter(path)
    assert path.read_bytes() == bytes(content)


def test_wrong_last_record_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "j"
    events = write(path, [3, 3])
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert list(read_all(JournalReader(path))) == events[:1]
    with JournalWriter(path) as writer:
        assert writer.size == len(frame(events[0]))


def test_records_over_block_borders(tmp_path: Path) -> None:
    """More than a block of both sides, with the longest record there may be, and one byte more refused."""
    path = tmp_path / "j"
    overhead = len(notice(1, 1 << 19).SerializeToString()) - (1 << 19)
    longest = writing.LONGEST_RECORD - overhead
    lengths = [longest, 60_000, 5, longest, 70_000, 3]
    events = write(path, lengths)
    assert list(read_all(JournalReader(path), limit=256)) == events
    with JournalWriter(path) as writer, pytest.raises(ValueError, match="at most 1048576 bytes"):
        writer.append(notice(1, longest + 1))
    assert writing.LONGEST_RECORD == reading.LONGEST_RECORD


async def test_following_and_finding(tmp_path: Path) -> None:
    """Growing, over more records than the reader remembers places of."""
    path = tmp_path / "j"
    reader = JournalReader(path)
    assert (await reader.fetch(0, 256)).count == 0
    with JournalWriter(path) as writer:
        seq = 0
        for attempt in range(1, 2001):
            writer.append(notice(attempt))
            if attempt % 100 == 0:
                run = await reader.fetch(seq, 256)
                assert (run.first_seq, run.count) == (seq + 1, 100)
                seq = run.last_seq
    assert await reader.count() == 2000
    for after in (0, 255, 256, 257, 1999):
        run = await JournalReader(path).fetch(after, 1)
        assert metric_service_pb2.StreamMetricsResponse.FromString(run.data).events[0].attempt == after + 1
    assert (await JournalReader(path).fetch(2500, 1)).count == 0


def test_one_writer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_FENCE_SECONDS", 0.2)
    with JournalWriter(tmp_path / "j"), pytest.raises(TimeoutError, match="another process is writing j"):
        JournalWriter(tmp_path / "j")


def test_waits_for_a_writer_that_is_about_to_end(tmp_path: Path) -> None:
    with (tmp_path / "j").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"], pass_fds=[held.fileno()])
    JournalWriter(tmp_path / "j").close()
    assert sleeper.wait() == 0


def test_links_and_odd_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic"):
        JournalWriter(tmp_path / "link")
    for name in ("link", "pipe"):
        with pytest.raises(JournalCorrupt, match=f"^{name} "):
            JournalReader(tmp_path / name).read(0, 1)


def test_full_disk_leaves_no_half_record(tmp_path: Path) -> None:
    """A file size limit stands in for the disk: write(2) then writes a part, as on a disk that fills up."""
    code = """
import errno, resource, signal, sys
from pathlib import Path
from finetuned.v1 import event_pb2
from fttrain.journal import JournalWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
writer = JournalWriter(Path(sys.argv[1]))
for number in range(20):
    try:
        writer.append(event_pb2.TrainingEvent(notice=event_pb2.Notice(text="x" * 90)))
    except OSError as error:
        print(number, errno.errorcode[error.errno])
        break
"""
    ran = subprocess.run([sys.executable, "-c", code, tmp_path / "j"], capture_output=True, text=True, check=True)
    assert ran.stdout == "9 ENOSPC\n"
    assert len(list(read_all(JournalReader(tmp_path / "j")))) == 9
    assert (tmp_path / "j").stat().st_size == 9 * len(frame(notice(0, 90)))
