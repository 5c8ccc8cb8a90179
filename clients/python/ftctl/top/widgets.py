"""The parts of the screen of `ftctl top`: the devices, the question before a job is ended, the view of one job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from ftclient import Client, FtError, Job
from ftclient.host import Device, Host
from ftctl import text
from ftctl.live import screen
from ftctl.live.feed import Feed
from ftctl.live.model import View
from ftctl.show import devices

# Pictures a second of one job.
FRAMES = 4
LEAST_BAR = 8


def device_lines(host: Host, width: int) -> Text:
    """A line for each device: who has its memory, and how busy it is, or why it is not used."""
    if not host.devices:
        return Text(f"the host offers no device; inventory: {host.inventory}", style="red")
    shown = Text(no_wrap=True)
    for device in host.devices:
        # Why it is not used is worth more than its bar.
        room = LEAST_BAR if device.unfit else max(LEAST_BAR, min(devices.WIDEST_BAR, width - 54))
        line = _device(device, room)
        line.truncate(width, overflow="ellipsis")
        shown.append_text(line).append("\n")
    shown.rstrip()
    return shown


def legend() -> str:
    """What the glyphs of a device's bar mean."""
    return "  ".join(f"{glyph} {name}" for name, glyph, _ in devices.PARTS)


def _device(device: Device, cells: int) -> Text:
    memory = devices.memory_of(device)
    used = device.total_bytes - memory.free - memory.promised
    line = Text(f"{devices.label(device):<6} ", style="bold")
    line.append_text(devices.bar((memory.ours, memory.promised, memory.others, memory.free), cells))
    line.append(f" {text.size(used):>9} of {text.size(device.total_bytes):>8}", style="default")
    if device.unfit:
        return line.append(f"  not used: {device.unfit}", style="bold red")
    busy, heat, power = devices.gauges_of(device)
    return line.append(f"  {busy:>4}  {heat:>5}  {power:>6}", style="default")


class Question(ModalScreen[str]):
    """Asks before a job is ended. Its answer: cancel, save, or nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('cancel')", "Cancel it"),
        Binding("s", "answer('save')", "Save, then cancel"),
        Binding("n,escape", "answer('')", "Leave it alone"),
    ]
    CSS = """
    Question { align: center middle; }
    Question > Vertical { width: auto; max-width: 90%; height: auto; padding: 1 2; border: round $error; }
    Question Static { width: auto; }
    """

    def __init__(self, job: Job, progress: str) -> None:
        super().__init__()
        self._job, self._progress = job, progress

    def compose(self) -> ComposeResult:
        """The question and what may be answered."""
        words = Text.assemble("End ", (self._job.name, "bold"), f" ({self._job.id})?  {self._job.state}")
        words.append(f", {self._progress}" if self._progress != text.NOTHING else "")
        with Vertical():
            yield Static(words)
            yield Static(Text("\ny cancel   s save a checkpoint, then cancel   n leave it alone", style="dim"))

    def action_answer(self, answer: str) -> None:
        """Leaves with the answer."""
        self.dismiss(answer)


class OneJob(Screen[None]):
    """The live view of one job, as `ftctl watch` has it; it has a client of its own, which ends with it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,left", "leave", "Back")]
    CSS = "OneJob Static { height: 1fr; }"

    def __init__(self, connect: Callable[[], Client], job: Job) -> None:
        super().__init__()
        self._client = connect()
        self._feed = Feed(self._client, job)
        self._view = View(job)

    def compose(self) -> ComposeResult:
        """The picture, and the keys below it."""
        yield Static()
        yield Footer()

    def on_mount(self) -> None:
        """Draws now and then."""
        self.set_interval(1 / FRAMES, self._draw)
        self._draw()

    def on_resize(self) -> None:
        """Draws at once in the new size."""
        self._draw()

    def on_unmount(self) -> None:
        """Ends the streams."""
        self._client.close()
        self._feed.close()

    def action_leave(self) -> None:
        """Back to all jobs."""
        self.dismiss()

    def _draw(self) -> None:
        try:
            for update in self._feed.next(0):
                self._view.take(update)
        except FtError as error:
            self.app.notify(str(error), severity="error")
        size = screen.Size(self.size.width, self.size.height - 1)
        self.query_one(Static).update(screen.live(self._view, size, datetime.now(UTC), hint=False))
