"""Breaches of policy that a zfs commits, emulated and real: read back, and the filesystem stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.notation import path
from tests.replication.pair import MIB
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.received_properties import ReceivedProperties
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import Outcome, Report
from zrepl_trio.zfs.cli import CliZfs

pytestmark = pytest.mark.slow

SEALED = path("ztdst/sealed")
PARENT = path(f"{SEALED}/ztsrc")
REPLICA = path(f"{PARENT}/a")
ONCE = ReplicationOptions(attempts=1)
CLEAR_PLACEHOLDER = 'case "$1" in create) shift; set -- create -o encryption=off "$@";; esac'
WRITABLE = """
if [ "$1" = recv ]; then
  {zfs} "$@" || exit
  for last; do :; done
  exec {zfs} set readonly=off "${{last%@*}}"
fi
"""


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    """With one snapshot to replicate, and an encrypted `ztdst/sealed`."""
    async with open_hosts(request.param, tmp_path) as made:
        await made.create("ztsrc/a")
        await made.fill("ztsrc/a", MIB)
        await made.snapshot("ztsrc/a", "1")
        key = made.directory / "key"
        key.write_bytes(bytes(range(32)))
        await made.create(
            SEALED,
            *("-o", "encryption=on", "-o", "keyformat=raw", "-o", f"keylocation=file://{key}"),
            *("-o", "mountpoint=none"),
        )
        yield made


def broken(hosts: Hosts, script: str) -> CliZfs:
    """The hosts' zfs, behind a shell that runs the script first."""
    program = hosts.directory / "broken-zfs"
    lines = script.format(zfs=hosts.zfs_command)
    program.write_text(f'#!/bin/sh\n{lines}\nexec {hosts.zfs_command} "$@"\n')
    program.chmod(0o755)
    return CliZfs(hosts.processes, zfs=str(program))


def receiver(zfs: CliZfs) -> Receiver:
    return Receiver(
        zfs,
        job="dst",
        root=SEALED,
        placeholder_encryption=PlaceholderEncryption.INHERIT,
        properties=ReceivedProperties(override={"readonly": "on"}),
    )


def breach(report: Report) -> str:
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    return report.error


async def test_a_breach_stops_its_filesystem(hosts: Hosts) -> None:
    """Clear text below an encrypted root (zrepl#504), of a placeholder and of a replica; a replica
    that a receive leaves writable."""
    # a placeholder that comes out in clear text goes again before anything is below it
    hosts.receiver = receiver(broken(hosts, CLEAR_PLACEHOLDER))
    told = breach(await hosts.run(ONCE))
    assert f"{PARENT}: encryption is 'off'" in told
    assert "as its parent" in told
    assert await hosts.zfs.dataset(PARENT) is None

    # one that was made so by hand has whatever is below it in clear text, at each run
    hosts.receiver = receiver(hosts.zfs)
    options = ("zrepl:placeholder=on", "encryption=off", "mountpoint=none")
    await hosts.create(PARENT, *(word for option in options for word in ("-o", option)))
    told = breach(await hosts.run(ONCE))
    assert f"{REPLICA}: encryption is 'off'" in told
    await hosts.snapshot("ztsrc/a", "2")
    assert breach(await hosts.run(ONCE)).startswith(told.partition(" is 'off'")[0])
    assert await hosts.marks(REPLICA) == set()

    # out of the way, it is made anew and all is encrypted
    await hosts.command("destroy", "-r", PARENT)
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    for name in (PARENT, REPLICA):
        assert await hosts.value(name, "encryptionroot") == (SEALED, "-")
    assert await hosts.value(REPLICA, "readonly") == ("on", "local")
    held = await hosts.marks(REPLICA)

    # what comes then and is not as it should be, is not confirmed
    await hosts.snapshot("ztsrc/a", "3")
    hosts.receiver = receiver(broken(hosts, WRITABLE))
    told = breach(await hosts.run(ONCE))
    assert f"{REPLICA}: readonly is 'off' (local), but 'on' is demanded" in told
    assert f"run `zfs set readonly=on {REPLICA}`" in told
    assert await hosts.marks(REPLICA) == held
