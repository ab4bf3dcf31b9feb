"""From checked config sections to jobs. What is not built was refused before (`config.support`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import assert_never

from zrepl_trio.config.hooks import CommandHook as CommandHookSection
from zrepl_trio.config.hooks import Hook as HookSection
from zrepl_trio.config.hooks import MysqlLockTables, PostgresCheckpoint
from zrepl_trio.config.model import Config, PullJob, PushJob, SinkJob, SourceJob
from zrepl_trio.config.model import SnapJob as SnapJobSection
from zrepl_trio.config.rules import (
    BandwidthLimit,
    CronSnapshotting,
    ManualSnapshotting,
    RecvOptions,
    SendOptions,
)
from zrepl_trio.config.rules import Protection as ProtectionSection
from zrepl_trio.config.transport import LocalConnect, LocalServe, StdinserverServe, TlsServe
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.endpoint.received_properties import ReceivedProperties
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.refusals import no_floor
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.active import ActiveJob, Schedule
from zrepl_trio.jobs.base import Job, JobType
from zrepl_trio.jobs.links import LinkFactory
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.policies import floor, local_policy, policies
from zrepl_trio.jobs.pruning import LocalPruning
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.jobs.served import Served
from zrepl_trio.jobs.served_peer import ServedPeer
from zrepl_trio.jobs.served_replicas import ServedReplicas
from zrepl_trio.jobs.world import World
from zrepl_trio.pace import Throttle
from zrepl_trio.replication.policy import (
    ANSWER_S,
    DivergencePolicy,
    InitialReplication,
    ReplicationOptions,
)
from zrepl_trio.rpc.control import CONNECT_LIMIT_S
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.snapshots.command_hook import CommandHook
from zrepl_trio.snapshots.hooks import Hook
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.model import SendFlags
from zrepl_trio.zfs.names import DatasetPath, Identity, check_identity

__all__ = ["build_jobs", "local_side", "runtime_directory"]

_KINDS = {
    "guarantee_resumability": GuaranteeKind.RESUMABILITY,
    "guarantee_incremental": GuaranteeKind.INCREMENTAL,
    "guarantee_nothing": GuaranteeKind.NOTHING,
}

_AFTER_DIALLING_S = 5.0
"""For the version handshake and a ping's way there and back, where dialling may take long."""


def runtime_directory(config: Config) -> str:
    """Where the control socket and the jobs' locks are."""
    return os.path.dirname(os.path.abspath(config.global_.control.sockpath))


def _lock_directory(config: Config, world: World) -> str | None:
    return runtime_directory(config) if world.locks else None


def build_jobs(config: Config, world: World) -> list[Job]:
    """The config's jobs, in its order, at rest."""
    jobs: list[Job] = []
    links = world.links(config)
    for section in config.jobs:
        match section:
            case PullJob() | PushJob():
                jobs.append(_active(config, section, links, world))
            case SourceJob() | SinkJob():
                jobs.append(_passive(config, section, links, world))
            case SnapJobSection():
                jobs.append(_snap(config, section, world))
            case _:
                assert_never(section)
    return jobs


def _snapper(section: SourceJob | PushJob | SnapJobSection, world: World) -> Snapper | None:
    """None for a job whose snapshots are taken by other means."""
    snapshotting = section.snapshotting
    if isinstance(snapshotting, ManualSnapshotting):
        return None
    rhythm = (
        snapshotting.cron if isinstance(snapshotting, CronSnapshotting) else snapshotting.interval
    )
    return Snapper(
        world.zfs,
        filesystems=section.filesystems,
        naming=snapshotting.naming,
        rhythm=rhythm,
        clock=world.clock,
        hooks=[_hook(hook, world, atomic=snapshotting.atomic) for hook in snapshotting.hooks],
        atomic=snapshotting.atomic,
        skip_unchanged=snapshotting.skip_unchanged,
        on_taken=partial(world.watch.snapshotted, section.name),
    )


def _hook(section: HookSection, world: World, *, atomic: bool) -> Hook:
    if world.processes is None:
        raise Refused(f"a hook of type {section.type}: nothing outside can be reached here")
    match section:
        case CommandHookSection():
            return CommandHook(
                world.processes,
                path=section.path,
                timeout_s=section.timeout,
                filesystems=section.filesystems,
                err_is_fatal=section.err_is_fatal,
                lists=atomic,
                most_logged_bytes=world.tuning.hook_log_bytes,
            )
        # here, as the clients' libraries need not be installed
        case PostgresCheckpoint():
            from zrepl_trio.snapshots.postgres_hook import PostgresHook

            return PostgresHook(
                dsn=section.dsn,
                timeout_s=section.timeout,
                filesystems=section.filesystems,
                err_is_fatal=section.err_is_fatal,
            )
        case MysqlLockTables():
            from zrepl_trio.snapshots.mysql_hook import MysqlHook

            return MysqlHook(
                dsn=section.dsn,
                timeout_s=section.timeout,
                filesystems=section.filesystems,
                err_is_fatal=section.err_is_fatal,
            )


def _snap(config: Config, section: SnapJobSection, world: World) -> ActiveJob:
    return ActiveJob(
        name=section.name,
        type=JobType.SNAP,
        schedule=Schedule(interval_s=None),
        work=LocalPruning(
            sender=Sender(
                world.zfs,
                job=section.name,
                filesystems=section.filesystems,
                on_unmatched=partial(world.watch.unmatched, section.name),
            ),
            policy=local_policy(section),
            clock=world.clock,
        ),
        clock=world.clock,
        runtime_dir=_lock_directory(config, world),
        watch=world.watch,
        snapper=_snapper(section, world),
    )


def _active(
    config: Config,
    section: PullJob | PushJob,
    links: LinkFactory,
    world: World,
) -> ActiveJob:
    connect = section.connect
    schedule = Schedule(interval_s=None)  # a push job is woken by its snapshots, or by a signal
    if isinstance(section, PullJob):
        schedule = Schedule(interval_s=section.interval, at_start=section.run_at_start)
    here = (
        _receiver(section, world, _throttle(section.recv.bandwidth_limit))
        if isinstance(section, PullJob)
        else _sender(section, world)
    )
    work = Replicating(
        connecter=links.connecter(connect),
        here=here,
        pulls=isinstance(section, PullJob),
        options=ReplicationOptions(
            protection=_protection(section.replication.protection),
            initial=InitialReplication(section.conflict_resolution.initial_replication),
            divergence=DivergencePolicy(section.conflict_resolution.divergence),
            follow_renames=section.conflict_resolution.renames == "follow",
            steps=section.replication.concurrency.steps,
            size_estimates=section.replication.concurrency.size_estimates,
            attempts=world.tuning.attempts,
            reconnect_s=world.tuning.reconnect_s,
            answer_s=max(ANSWER_S, connect.dial_timeout + _AFTER_DIALLING_S),
        ),
        clock=world.clock,
        decode_token=world.zfs.decode_token,
        connect_limit_s=max(CONNECT_LIMIT_S, connect.dial_timeout + _AFTER_DIALLING_S),
        work_limit_s=config.global_.zfs.stream_timeout,
        shutdowns=world.shutdowns,
        pruning=policies(section),
        open_peer=links.open_peer,
    )
    return ActiveJob(
        name=section.name,
        type=JobType(section.type),
        schedule=schedule,
        work=work,
        clock=world.clock,
        runtime_dir=_lock_directory(config, world),
        needs=_serving(config, connect.listener_name)
        if isinstance(connect, LocalConnect)
        else None,
        watch=world.watch,
        snapper=_snapper(section, world) if isinstance(section, PushJob) else None,
    )


def _passive(
    config: Config,
    section: SourceJob | SinkJob,
    links: LinkFactory,
    world: World,
) -> PassiveJob:
    peers: dict[str, ServedPeer] = {}
    replicas: dict[Identity, ServedReplicas] = {}
    if isinstance(section, SourceJob):
        endpoint_of = _serve_all(section, world, peers)
    else:
        endpoint_of = _serve_each(section, world, replicas)

    def clients() -> list[Served]:
        return [*peers.values(), *replicas.values()]

    async def serve(connection: Connection) -> None:
        endpoint = endpoint_of(connection.client_identity)
        await serve_connection(
            connection,
            endpoint,
            work_limit_s=config.global_.zfs.stream_timeout,
            shutdowns=world.shutdowns,
        )

    return PassiveJob(
        name=section.name,
        type=JobType(section.type),
        listener=links.listener(section.serve, endpoint_of),
        serve=serve,
        runtime_dir=_lock_directory(config, world),
        freshness=lambda: tuple(each for one in clients() for each in one.freshness),
        snapper=_snapper(section, world) if isinstance(section, SourceJob) else None,
        # of all of them, so no `any`
        tidy=lambda: max([one.drop_stale() for one in clients()], default=False),
    )


def _serving(config: Config, listener_name: str) -> str | None:
    for section in config.jobs:
        serve = getattr(section, "serve", None)
        if isinstance(serve, LocalServe) and serve.listener_name == listener_name:
            return section.name
    return None


def _serve_all(
    section: SourceJob, world: World, peers: dict[str, ServedPeer]
) -> Callable[[str], Endpoint]:
    """One sender for all; in `peers` comes what each identity is known to have."""
    sender = _sender(section, world)
    # The cursors are the job's: of several clients nobody can tell whose progress they show.
    cursor_job = section.name if _has_one_client(section.serve) else None

    def served(identity: str) -> Endpoint:
        if identity not in peers:
            peers[identity] = ServedPeer(
                sender,
                identity=identity,
                cursor_job=cursor_job,
                on_refused=partial(world.watch.refused, section.name, identity),
            )
        return peers[identity]

    return served


def _has_one_client(serve: object) -> bool:
    match serve:
        case StdinserverServe(client_identities=identities):
            return len(identities) == 1
        case TlsServe(client_cns=names):
            return len(names) == 1
        case _:
            return False


def _serve_each(
    section: SinkJob, world: World, replicas: dict[Identity, ServedReplicas]
) -> Callable[[str], Endpoint]:
    """A receiver for each identity, shared by its connections, in `replicas`; all keep to the job's
    one limit."""
    throttle = _throttle(section.recv.bandwidth_limit)

    def served(client_identity: str) -> Endpoint:
        identity = check_identity(client_identity)
        if identity not in replicas:
            receiver = _receiver(section, world, throttle, identity)
            replicas[identity] = ServedReplicas(
                receiver,
                identity=identity,
                on_refused=partial(world.watch.refused, section.name, identity),
            )
        return replicas[identity]

    return served


def local_side(section: PullJob | SinkJob | SourceJob, world: World) -> Receiver | Sender:
    """What the job keeps or offers on this host, for a look; a sink's with all its clients."""
    if isinstance(section, SourceJob):
        return _sender(section, world)
    return _receiver(section, world, None)


def _sender(section: SourceJob | PushJob, world: World) -> Sender:
    return Sender(
        world.zfs,
        job=section.name,
        filesystems=section.filesystems,
        flags=_send_flags(section.send),
        on_unmatched=partial(world.watch.unmatched, section.name),
        throttle=_throttle(section.send.bandwidth_limit),
        floor=floor(section, world.clock) if isinstance(section, SourceJob) else no_floor,
    )


def _receiver(
    section: PullJob | SinkJob,
    world: World,
    throttle: Throttle | None,
    identity: Identity | None = None,
) -> Receiver:
    return Receiver(
        world.zfs,
        job=section.name,
        root=DatasetPath.parse(section.root_fs),
        identity=identity,
        targets=section.recv.target,
        placeholder_encryption=PlaceholderEncryption(section.recv.placeholder.encryption),
        properties=_received_properties(section.recv),
        unmounted=section.recv.unmounted,
        throttle=throttle,
        floor=floor(section, world.clock) if isinstance(section, SinkJob) else no_floor,
    )


def _protection(section: ProtectionSection) -> Protection:
    return Protection(initial=_KINDS[section.initial], incremental=_KINDS[section.incremental])


def _throttle(section: BandwidthLimit) -> Throttle | None:
    if not section.limited:
        return None
    # zrepl cuts off the bits that make no whole byte
    return Throttle(int(section.max / 8), int(section.bucket_capacity / 8))


def _send_flags(section: SendOptions) -> SendFlags:
    return SendFlags(
        encrypted=section.encrypted,
        raw=section.raw,
        properties=section.send_properties,
        backup_properties=section.backup_properties,
        large_blocks=section.large_blocks,
        compressed=section.compressed,
        embedded_data=section.embedded_data,
        saved=section.saved,
    )


def _received_properties(section: RecvOptions) -> ReceivedProperties:
    return ReceivedProperties(
        inherit=section.properties.inherit,
        override=section.properties.override,
        accept=frozenset(section.properties.accept),
    )
