"""How a device's memory is divided among who has it."""

from __future__ import annotations

import pytest

from ftclient.enums import DeviceKind
from ftclient.host import Device, DeviceUse
from ftctl.show.devices import Memory, memory_of

JOB = DeviceUse("k7m2p9x4qd", 0, "", 20, 24)
GROWN = DeviceUse("f5nopqrstu", 0, "", 30, 25)
FOREIGN = DeviceUse("", 4711, "python", 9, 0)


@pytest.mark.parametrize(
    ("used", "uses", "expected"),
    [
        (0, (), Memory(ours=0, promised=0, others=0, free=80)),
        (20, (JOB,), Memory(ours=20, promised=4, others=0, free=56)),
        # What nobody tells of is not ours either.
        (30, (JOB, FOREIGN), Memory(ours=20, promised=4, others=10, free=46)),
        # A job over its reservation is promised nothing more.
        (30, (GROWN,), Memory(ours=30, promised=0, others=0, free=50)),
        # Of two readings at different moments the larger is believed.
        (15, (JOB, FOREIGN), Memory(ours=20, promised=4, others=9, free=47)),
        (79, (JOB,), Memory(ours=20, promised=4, others=59, free=0)),
    ],
)
def test_who_has_it(used: int, uses: tuple[DeviceUse, ...], expected: Memory) -> None:
    device = Device("GPU-1", DeviceKind.GPU, "H100", 0, 80, used, 24, uses, None, None, None, "", False, 0)
    assert memory_of(device) == expected
