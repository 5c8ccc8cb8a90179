"""The composition root: the one place that makes the parts of the daemon and knows how they fit together.

Everything runs in one task group on one event loop; what blocks goes to threads. When it ends, the keepers do not: the
next daemon finds them again.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from importlib.metadata import version

import structlog

from ftd.admission import Admission
from ftd.attempts import Attempts
from ftd.bootstrap import LaunchSettings
from ftd.caretaker import Caretaker
from ftd.changes import Changes
from ftd.config import Config, Sharing
from ftd.contents import Contents
from ftd.database import Database
from ftd.devices import Inventory, open_inventory
from ftd.dispatch import Dispatcher
from ftd.doorbells import Doorbells
from ftd.experience import Experience
from ftd.followers import Followers
from ftd.intake import Intake
from ftd.launch import ExecLauncher
from ftd.ledger import Ledger
from ftd.looks import Looks
from ftd.measured import Measurements
from ftd.models import HostPolicy
from ftd.moves import LIVE
from ftd.notify import Notifier, watchdog_seconds
from ftd.outlook import Outlook
from ftd.paths import PathRoots, Roots
from ftd.prepare import Preparer
from ftd.quarantine import Quarantine
from ftd.queue import Queue
from ftd.rowcache import RowCache
from ftd.rundir import RunDirectories
from ftd.secrets import Secrets
from ftd.service.artifacts import ArtifactService
from ftd.service.chat import ChatService
from ftd.service.datasets import DatasetService
from ftd.service.follow import Following
from ftd.service.host import HostService
from ftd.service.jobs import JobService
from ftd.service.metrics import MetricService, StreamLimit
from ftd.service.server import Listener, Services, listen
from ftd.state import State
from ftd.store import MIGRATIONS, Store
from ftd.tracking import TrackerPolicy
from ftd.uploaded import Datasets
from ftd.uploads import Uploads
from ftd.world import DevicePolicy, World
from ftsched.model import Policy, Quota

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


@dataclass(frozen=True, slots=True)
class Kept:
    """What is on disk, and outlives the daemon."""

    state: State
    runs: RunDirectories
    database: Database
    store: Store
    ledger: Ledger
    quarantine: Quarantine
    measurements: Measurements
    queue: Queue
    uploads: Uploads

    @classmethod
    async def open(cls, config: Config) -> Kept:
        """Claims the state directory. Raises StateRefused, DatabaseRefused."""
        state = State.claim(config.daemon.state_directory)
        runs, database = RunDirectories(state.runs), Database(state.database, MIGRATIONS)
        await database.open()
        store, ledger = Store(database), Ledger(database, config.queue.half_life_seconds)
        changes = Changes(database, config.limits.changes)
        queue = Queue(store, runs, ledger, changes, config.limits.active_jobs, queue_policy(config).quotas)
        limits, contents = config.limits, Contents(state.datasets.resolve())
        uploads = Uploads(Datasets(database), contents, limits.upload_bytes, limits.datasets_bytes)
        return cls(state, runs, database, store, ledger, Quarantine(database), Measurements(database), queue, uploads)

    async def load(self) -> None:
        """Reads what is needed at hand. Raises StateRefused."""
        await asyncio.to_thread(self.runs.purge)
        await asyncio.to_thread(self.state.check_runs, await self.store.ids(), await self.store.is_new())
        await self.uploads.clear()
        for part in (self.queue, self.quarantine, self.measurements):
            await part.load()

    async def close(self) -> None:
        """Waits for what is under way."""
        await self.queue.close()
        await self.database.close()


async def serve(config: Config) -> None:
    """Runs the daemon until SIGTERM or SIGINT.

    Raises StateRefused, DatabaseRefused, DeviceError or ListenRefused when it cannot start, DatabaseFailed or
    SocketLost when it must not go on.
    """
    asked = _stop_signals()
    # A host that cannot say what it has is refused before anything is touched.
    inventory = await asyncio.to_thread(open_inventory, config.devices.inventory, config.devices.file)
    kept = await Kept.open(config)
    try:
        await kept.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(_fail_with(kept.database))
            services = await _assemble(config, kept, inventory, group)
            await _until(asked, services, config, inventory.source, group)
    except* _Stop:
        log.info("stopped", jobs_going_on=sum(job.state in LIVE for job in kept.queue.active()))
    finally:
        await kept.close()


async def _assemble(config: Config, kept: Kept, inventory: Inventory, group: asyncio.TaskGroup) -> Services:
    """Makes the parts, finds the attempts of the daemon before, and sets everything going."""
    queue, runs = kept.queue, kept.runs
    doorbells, policy = Doorbells(), queue_policy(config)
    queue.listen(lambda job: doorbells.ring(runs.get(job.id).path))
    intake = _intake(config, kept.measurements)
    experience = Experience(intake, kept.measurements, inventory)
    launcher = ExecLauncher(runs, _launch_settings(config))
    attempts = Attempts(queue, launcher, runs, doorbells, intake, experience, group)
    world = World(
        queue,
        attempts,
        runs,
        inventory,
        kept.quarantine,
        kept.ledger,
        device_policy(config),
        policy,
        experience.history,
    )
    outlook = Outlook(group, world.clock)
    dispatcher = Dispatcher(queue, attempts, world, outlook)
    caretaker = Caretaker(queue, attempts, world, kept.quarantine, group, dispatcher.wake)
    group.create_task(doorbells.run())
    await attempts.recover([job for job in queue.active() if job.state in LIVE], RECOVER_SECONDS)
    group.create_task(caretaker.watch(inventory))
    group.create_task(dispatcher.run())
    group.create_task(RowCache(queue, _launch_settings(config).prepared_root, config.limits.prepared_bytes).run())
    group.create_task(Preparer(queue, attempts, config.trainer.preparations).run())

    looks = Looks(kept.state.looks, _launch_settings(config), doorbells, group, config.trainer.preparations)
    await looks.clear()
    streams = StreamLimit(config.limits.streams)
    secrets = Secrets(config.security.secrets)
    tracking = TrackerPolicy(config.security.trackers, secrets, Roots(config.paths.output_roots))
    admission = Admission(queue, intake, runs, policy.quotas, tracking, kept.uploads.sent)
    followers = Followers(queue, runs, secrets, config.daemon.socket_path, group)
    followers.begin()
    return Services(
        JobService(
            queue,
            admission,
            world,
            outlook,
            dispatcher,
            followers,
            attempts,
            runs,
            Following(queue, runs, doorbells, streams),
            config.limits.spec_bytes,
        ),
        MetricService(queue, runs, doorbells, streams),
        HostService(queue, world, outlook, dispatcher, kept.quarantine, inventory, kept.state.path, VERSION),
        DatasetService(queue, admission, world, looks, kept.uploads, config.limits.spec_bytes),
        ArtifactService(queue, runs),
        ChatService(queue, runs, doorbells, streams),
    )


async def _until(
    asked: asyncio.Event, services: Services, config: Config, source: str, group: asyncio.TaskGroup
) -> None:
    """Serves until it is asked to stop, raises _Stop then."""
    notifier = Notifier()
    listener = await listen(services, config.daemon.socket_path, config.limits.calls)
    log.info("ready", socket=str(listener.path), version=VERSION, inventory=source)
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
    return Intake(
        roots,
        HostPolicy(
            security.allow_remote_code,
            security.allow_hub,
            data_urls=security.data_urls,
            code_roots=paths.code_roots,
            secrets=Secrets(security.secrets),
        ),
        measurements.of,
    )


def device_policy(config: Config) -> DevicePolicy:
    """Who may share which device."""
    devices = config.devices
    exceptions = {device: _jobs_at_once(sharing) for device, sharing in devices.gpu_policies.items()}
    return DevicePolicy(_jobs_at_once(devices.gpu_policy), devices.cpu_jobs, exceptions)


def _jobs_at_once(sharing: Sharing) -> int | None:
    return 1 if sharing == "exclusive" else None


def queue_policy(config: Config) -> Policy:
    """The knobs of the plan, as the file has them."""
    queue = config.queue
    return Policy(
        placement=queue.placement,
        backfill=queue.backfill,
        preempt=queue.preempt,
        min_run_seconds=queue.min_run_seconds,
        aging_seconds=queue.aging_seconds,
        weights=dict(queue.weights),
        quotas={project: Quota(**quota.model_dump()) for project, quota in queue.quotas.items()},
    )


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
        secrets=security.secrets,
        fetched_bytes=config.limits.fetched_bytes,
    )
