"""The program `ftctl top`: looks at the host every few seconds, draws it, and does to jobs what keys ask for.

It asks the daemon in threads, so that it answers keys also while the daemon does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Static
from textual.worker import get_current_worker

from ftclient import Client, FtError, Job
from ftctl.output import STATE_STYLES
from ftctl.top import model
from ftctl.top.widgets import OneJob, Question, device_lines, legend


class Top(App[None]):
    """The host on one screen. `connect` makes a client; `period` is the time between looks, in seconds."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,o", "open", "Open"),
        Binding("c", "cancel", "Cancel"),
        Binding("h", "hold", "Hold/release"),
        Binding("f", "front", "To front"),
        Binding("a", "ended", "Ended"),
        Binding("r", "look", "Refresh", show=False),
        Binding("j", "move(1)", show=False),
        Binding("k", "move(-1)", show=False),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]
    CSS = """
    #head { height: 1; padding: 0 1; background: $primary-darken-2; }
    #head.stale { background: $error-darken-2; }
    #devices { height: auto; max-height: 50%; border: round $primary; padding: 0 1; overflow-y: auto; }
    DataTable { height: 1fr; background: $background; }
    #detail { height: auto; min-height: 4; max-height: 8; border: round $primary; padding: 0 1; }
    """

    def __init__(self, connect: Callable[[], Client], period: float) -> None:
        super().__init__()
        self._connect, self._client = connect, connect()
        self._period = period
        self._seen: model.Look | None = None
        self._rows: list[model.Row] = []
        self._columns: list[str] = []
        self._with_ended = self._looking = False

    def compose(self) -> ComposeResult:
        """Host, devices, jobs, the job under the cursor, keys."""
        yield Static("asking the daemon …", id="head")
        yield Static(id="devices")
        yield DataTable[Text](cursor_type="row")
        yield Static(id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Looks now, and again every period."""
        self.query_one("#devices").border_title = "devices"
        self.query_one("#devices").border_subtitle = legend()
        self.query_one("#detail").border_title = "job"
        self.action_look()
        self.set_interval(self._period, self.action_look)

    def on_resize(self) -> None:
        """Other columns may have room now."""
        self.call_after_refresh(self._draw)

    def on_unmount(self) -> None:
        """Ends what is still asked."""
        self._client.close()

    def action_look(self) -> None:
        """Looks at the host, unless it is still looking; what was seen before stays until the daemon answers."""
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True)
    def _look(self) -> None:
        try:
            seen = model.look(self._client)
        except FtError as error:
            self._tell(self._stale, error)
        else:
            self._tell(self._take, seen)

    def _tell(self, what: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Calls from a thread; who has left meanwhile wants to hear nothing."""
        if not get_current_worker().is_cancelled:
            self.call_from_thread(what, *args, **kwargs)

    def _stale(self, error: FtError) -> None:
        self._looking = False
        since = f", shown as of {self._seen.time.astimezone():%H:%M:%S}" if self._seen else ""
        head = self.query_one("#head", Static)
        head.update(f"no answer{since}: {error}")
        head.add_class("stale")

    def _take(self, seen: model.Look) -> None:
        self._looking, self._seen = False, seen
        head = self.query_one("#head", Static)
        head.update(Text(model.headline(seen), no_wrap=True, overflow="ellipsis"))
        head.remove_class("stale")
        self._draw()

    def _draw(self) -> None:
        if self._seen is None:
            return
        panel = self.query_one("#devices", Static)
        panel.update(device_lines(self._seen.host, self.size.width - 4))
        chosen = self._chosen
        self._rows = model.rows(self._seen, ended=self._with_ended)
        self._fill(self.query_one(DataTable))
        ids = [row.job.id for row in self._rows]
        if chosen and chosen.job.id in ids:
            self.query_one(DataTable).move_cursor(row=ids.index(chosen.job.id), animate=False)
        self._detail()

    def _fill(self, table: DataTable[Text]) -> None:
        columns = model.columns(self.size.width)
        table.clear(columns=columns != self._columns)
        if columns != self._columns:
            table.add_columns(*columns)
            self._columns = columns
        for row, cells in zip(self._rows, model.cells(self._rows, columns, self.size.width), strict=True):
            styles = [STATE_STYLES.get(row.job.state, "") if name == "STATE" else "" for name in columns]
            table.add_row(*map(Text, cells, styles), key=row.job.id)

    @property
    def _chosen(self) -> model.Row | None:
        """The row under the cursor."""
        index = self.query_one(DataTable).cursor_row
        return self._rows[index] if index < len(self._rows) else None

    @on(DataTable.RowHighlighted)
    def _detail(self) -> None:
        row, panel = self._chosen, self.query_one("#detail", Static)
        if row is None or self._seen is None:
            panel.update(Text("no job", style="dim"))
            return
        first, *lines = model.detail(row, self._seen.host, datetime.now(UTC))
        panel.update(Text("\n").join([Text(first, style="bold"), *map(Text, lines)]))

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In the view of one job the keys of the table do nothing, and are not offered."""
        del parameters
        return action not in ("open", "ended", "move") or len(self.screen_stack) == 1

    def action_move(self, by: int) -> None:
        """Moves the cursor."""
        table = self.query_one(DataTable)
        table.move_cursor(row=table.cursor_row + by)

    def action_ended(self) -> None:
        """Shows the jobs that have ended, or no more."""
        self._with_ended = not self._with_ended
        self._draw()

    @on(DataTable.RowSelected)
    def action_open(self) -> None:
        """The live view of a job."""
        if row := self._chosen:
            self.push_screen(OneJob(self._connect, row.job))

    def action_cancel(self) -> None:
        """Ends a job, after a question."""
        if not (row := self._chosen):
            return

        def answered(answer: str | None) -> None:
            if answer:
                self._change("cancelled", lambda client: client.cancel(row.job, save=answer == "save"))

        self.push_screen(Question(row.job, row.cells["PROGRESS"]), answered)

    def action_hold(self) -> None:
        """Keeps a waiting job from starting, or ends its hold."""
        if not (row := self._chosen):
            return
        if row.job.state == "paused":
            self._change("released", lambda client: client.release(row.job))
        else:
            self._change("held", lambda client: client.hold(row.job))

    def action_front(self) -> None:
        """Moves a waiting job before all others of its priority."""
        if row := self._chosen:
            self._change("moved to the front", lambda client: client.update(row.job, front=True))

    @work(thread=True)
    def _change(self, done: str, change: Callable[[Client], Job]) -> None:
        """Asks for a change, tells how it went, and looks again."""
        try:
            job = change(self._client)
        except FtError as error:
            self._tell(self.notify, error.advice or error.why, title=str(error), severity="error")
        else:
            self._tell(self.notify, f"{job.name} ({job.id}) {done}")
        self._tell(self.action_look)
