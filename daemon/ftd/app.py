"""The composition root: the one place that makes the parts of the daemon and knows how they fit together.

Everything runs in one task group on one event loop; what blocks goes to threads. When it ends, the keepers do not: the
next daemon finds them again.
"""

from __future__ import annotations

import asyncio
import signal
from importlib.metadata import version

import structlog

from ftd.attempts import Attempts
from ftd.bootstrap import LaunchSettings
from ftd.config import Config
from ftd.database import Database
from ftd.devices import Inventory, open_inventory
from ftd.dispatch import DevicePolicy, Dispatcher
from ftd.doorbells import Doorbells
from ftd.experience import Experience
from ftd.intake import Intake
from ftd.launch import ExecLauncher
from ftd.measured import Measurements
from ftd.models import HostPolicy
from ftd.moves import LIVE
from ftd.notify import Notifier, watchdog_seconds
from ftd.paths import PathRoots, Roots
from ftd.prepare import Preparer
from ftd.queue import Queue
from ftd.rundir import RunDirectories
from ftd.service.artifacts import ArtifactService
from ftd.service.datasets import DatasetService
from ftd.service.host import HostService
from ftd.service.jobs import JobService
from ftd.service.metrics import MetricService, StreamLimit
from ftd.service.server import Listener, Services, listen
from ftd.state import State
from ftd.store import MIGRATIONS, Store

VERSION = version("finetuned")
# For all jobs together, before the daemon serves.
RECOVER_SECONDS = 10.0
# For calls under way when the daemon stops; streams are cut and go on with the next daemon.
GRACE_SECONDS = 1.0
# How often the daemon looks at itself when systemd does not say.
LOOK_SECONDS = 10.0
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SocketLost(Exception):
    """Something else is at the socket's path: no client can reach this daemon any more."""


class _Stop(Exception):
    """Ends the task group."""


async def serve(config: Config) -> None:
    """Runs the daemon until SIGTERM or SIGINT.

    Raises StateRefused, DatabaseRefused, DeviceError or ListenRefused when it cannot start, DatabaseFailed or
    SocketLost when it must not go on.
    """
    asked = _stop_signals()
    state = State.claim(config.daemon.state_directory)
    inventory = await asyncio.to_thread(open_inventory, config.devices.inventory, config.devices.file)
    runs = RunDirectories(state.runs)
    database = Database(state.database, MIGRATIONS)
    await database.open()
    store = Store(database)
    measurements = Measurements(database)
    queue = Queue(store, runs, config.limits.active_jobs)
    try:
        await asyncio.to_thread(runs.purge)
        await asyncio.to_thread(state.check_runs, await store.ids(), await store.is_new())
        await queue.load()
        await measurements.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail_with(database))
            await _run(config, state, inventory, runs, queue, measurements, asked, group)
    except* _Stop:
        log.info("stopped", jobs_going_on=sum(job.state in LIVE for job in queue.active()))
    finally:
        await queue.close()
        await database.close()


async def _run(
    config: Config,
    state: State,
    inventory: Inventory,
    runs: RunDirectories,
    queue: Queue,
    measurements: Measurements,
    asked: asyncio.Event,
    group: asyncio.TaskGroup,
) -> None:
    """Finds the attempts of the daemon before, serves until it is asked to stop, raises _Stop then."""
    notifier = Notifier()
    doorbells = Doorbells()
    queue.listen(lambda job: doorbells.ring(runs.get(job.id).path))
    intake = _intake(config, measurements)
    experience = Experience(intake, measurements, inventory)
    launcher = ExecLauncher(runs, _launch_settings(config))
    attempts = Attempts(queue, launcher, runs, doorbells, intake, experience, group)
    dispatcher = Dispatcher(queue, attempts, inventory, _device_policy(config))
    group.create_task(doorbells.run())
    await attempts.recover([job for job in queue.active() if job.state in LIVE], RECOVER_SECONDS)
    group.create_task(dispatcher.run())
    group.create_task(Preparer(queue, attempts, config.trainer.preparations).run())

    streams = StreamLimit(config.limits.streams)
    services = Services(
        JobService(queue, intake, dispatcher, runs, doorbells, streams, config.limits.spec_bytes),
        MetricService(queue, runs, doorbells, streams),
        HostService(queue, dispatcher, state.path, VERSION),
        DatasetService(queue),
        ArtifactService(queue, runs),
    )
    listener = await listen(services, config.daemon.socket_path, config.limits.calls)
    log.info("ready", socket=str(listener.path), version=VERSION, inventory=inventory.source)
    notifier.ready(f"serving on {listener.path}")
    watching = group.create_task(_look_after(listener, notifier))
    try:
        await asked.wait()
    finally:
        notifier.stopping()
        watching.cancel()
        await listener.stop(GRACE_SECONDS)
    raise _Stop


async def _look_after(listener: Listener, notifier: Notifier) -> None:
    """Tells systemd that the loop turns, and notices when the socket is no longer ours."""
    while True:
        notifier.alive()
        if not listener.is_ours():
            raise SocketLost(f"{listener.path}: is no longer this daemon's socket")
        await asyncio.sleep(watchdog_seconds() or LOOK_SECONDS)


async def _fail_with(database: Database) -> None:
    """Ends everything once nothing can be acknowledged any more."""
    await asyncio.shield(database.failed)


def _stop_signals() -> asyncio.Event:
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    return asked


def _intake(config: Config, measurements: Measurements) -> Intake:
    paths, security = config.paths, config.security
    roots = PathRoots(Roots(paths.model_roots), Roots(paths.data_roots), Roots(paths.output_roots))
    return Intake(roots, HostPolicy(security.allow_remote_code, security.allow_hub), measurements.of)


def _device_policy(config: Config) -> DevicePolicy:
    devices = config.devices
    return DevicePolicy(1 if devices.gpu_policy == "exclusive" else None, devices.cpu_jobs)


def _launch_settings(config: Config) -> LaunchSettings:
    trainer, security = config.trainer, config.security
    return LaunchSettings(
        state_directory=config.daemon.state_directory,
        prepare_command=trainer.prepare_command,
        rank_command=trainer.rank_command,
        allow_remote_code=security.allow_remote_code,
        allow_hub=security.allow_hub,
        stop_grace_seconds=trainer.stop_grace_seconds,
        kill_grace_seconds=trainer.kill_grace_seconds,
        threads=trainer.threads,
        daemon_version=VERSION,
    )
