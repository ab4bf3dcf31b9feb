"""From checked config sections to jobs. What is not built was refused before (`config.support`)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from zrepl_trio.config.model import Config, PullJob, SourceJob
from zrepl_trio.config.rules import Protection as ProtectionSection
from zrepl_trio.config.rules import RecvOptions, SendOptions
from zrepl_trio.config.transport import SshStdinserverConnect, StdinserverServe
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.received_properties import ReceivedProperties
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.active import ActiveJob, Schedule
from zrepl_trio.jobs.base import Job
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.pull import PullWork
from zrepl_trio.jobs.world import World
from zrepl_trio.replication.policy import ANSWER_S, InitialReplication, ReplicationOptions
from zrepl_trio.rpc.control import CONNECT_LIMIT_S
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.transport.base import Connection
from zrepl_trio.transport.ssh import SshConnecter
from zrepl_trio.transport.sshargs import SshTarget
from zrepl_trio.transport.stdinserver import StdinserverListener
from zrepl_trio.zfs.model import SendFlags
from zrepl_trio.zfs.names import DatasetPath, check_identity

__all__ = ["build_jobs", "runtime_directory"]

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


def build_jobs(
    config: Config, world: World, *, dormant: Mapping[str, tuple[str, ...]]
) -> list[Job]:
    """The config's jobs, in its order, at rest.

    `dormant` names by job what is configured and does not act. Refused, with all jobs concerned,
    when one is of a kind that is not built.
    """
    jobs: list[Job] = []
    unbuilt: list[str] = []
    for section in config.jobs:
        match section:
            case PullJob(connect=SshStdinserverConnect() as connect):
                jobs.append(_pull(config, section, connect, world, dormant.get(section.name, ())))
            case SourceJob(serve=StdinserverServe() as serve):
                jobs.append(_source(config, section, serve, world, dormant.get(section.name, ())))
            case _:
                unbuilt.append(f"job {section.name!r} ({section.type}) is of a kind not built yet")
    if unbuilt:
        raise Refused("; ".join(unbuilt))
    return jobs


def _pull(
    config: Config,
    section: PullJob,
    connect: SshStdinserverConnect,
    world: World,
    dormant: tuple[str, ...],
) -> ActiveJob:
    target = SshTarget(
        host=connect.host,
        user=connect.user,
        port=connect.port,
        identity_file=str(connect.identity_file),
        options=connect.options,
        ssh_command=connect.ssh_command or "ssh",
    )
    receiver = Receiver(
        world.zfs,
        job=section.name,
        root=DatasetPath.parse(section.root_fs),
        placeholder_encryption=PlaceholderEncryption(section.recv.placeholder.encryption),
        properties=_received_properties(section.recv),
        unmounted=section.recv.unmounted,
    )
    work = PullWork(
        connecter=SshConnecter(target, dial_timeout_s=connect.dial_timeout),
        receiver=receiver,
        options=ReplicationOptions(
            protection=_protection(section.replication.protection),
            initial=InitialReplication(section.conflict_resolution.initial_replication),
            steps=section.replication.concurrency.steps,
            size_estimates=section.replication.concurrency.size_estimates,
            answer_s=max(ANSWER_S, connect.dial_timeout + _AFTER_DIALLING_S),
        ),
        clock=world.clock,
        decode_token=world.zfs.decode_token,
        connect_limit_s=max(CONNECT_LIMIT_S, connect.dial_timeout + _AFTER_DIALLING_S),
    )
    return ActiveJob(
        name=section.name,
        schedule=Schedule(interval_s=section.interval, at_start=section.run_at_start),
        work=work,
        clock=world.clock,
        runtime_dir=runtime_directory(config),
        dormant=dormant,
    )


def _source(
    config: Config,
    section: SourceJob,
    serve: StdinserverServe,
    world: World,
    dormant: tuple[str, ...],
) -> PassiveJob:
    sender = Sender(
        world.zfs,
        job=section.name,
        filesystems=section.filesystems,
        flags=_send_flags(section.send),
    )

    async def serve_client(connection: Connection) -> None:
        await serve_connection(connection, sender)

    return PassiveJob(
        name=section.name,
        listener=StdinserverListener(
            str(config.global_.serve.stdinserver.sockdir),
            [check_identity(identity) for identity in serve.client_identities],
        ),
        serve=serve_client,
        runtime_dir=runtime_directory(config),
        dormant=dormant,
    )


def _protection(section: ProtectionSection) -> Protection:
    return Protection(initial=_KINDS[section.initial], incremental=_KINDS[section.incremental])


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
