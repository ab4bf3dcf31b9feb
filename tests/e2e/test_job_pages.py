"""The configs of docs/job-*.md, run as they stand but for places, the host's name and its port."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import trio

from tests.e2e.stages import outcome, snapshots
from tests.e2e.test_readme import SCRIPT, host_user, needs_sshd, sshd_port, typed
from tests.support.docs import blocks
from tests.support.hosts import scratch
from zrepl_trio.demo.data import write_texts
from zrepl_trio.demo.stage import Stage, open_stage

REPLICAS = {"pull": "storage/backups/tank/data", "push": "storage/sink/app-srv/tank/data"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """Its `source` is the host that is logged in to: the passive one."""
    with scratch() as directory:
        async with open_stage(directory, use_sshd=True) as made:
            yield made


def config_of(job: str, stage: Stage) -> str:
    config = next(each.text for each in blocks(f"docs/job-{job}.md") if each.language == "yaml")
    ssh_home = stage.source.directory.parent / "ssh"
    for old, new in (
        ("host: app-srv.example.com", "host: 127.0.0.1"),
        ("host: backup-srv.example.com", "host: 127.0.0.1"),
        ("user: root", f"user: {host_user()}"),
        ("port: 22\n", f"port: {sshd_port(stage) if stage.sshd_pid else 22}\n"),
        ("/etc/zrepl/ssh/identity", str(ssh_home / "page_key")),
        ("/etc/zrepl/ssh/known_hosts", str(ssh_home / "page_known_hosts")),
    ):
        config = config.replace(old, new)
    return config.partition("jobs:\n")[2]


@needs_sshd
@pytest.mark.parametrize(("passive", "active"), [("source", "pull"), ("sink", "push")])
async def test_the_two_pages_make_a_pair(stage: Stage, passive: str, active: str) -> None:
    serving, dialling = stage.source, stage.backup
    sender, receiver = (serving, dialling) if passive == "source" else (dialling, serving)
    await sender.run("zpool", "create", "tank")
    await sender.run("zfs", "create", "tank/data")
    await receiver.run("zpool", "create", "storage")
    await receiver.run("zfs", "create", REPLICAS[active].split("/tank")[0].removesuffix("/app-srv"))
    await authorize(stage, passive)
    serving.write_config(config_of(passive, stage))
    dialling.write_config(config_of(active, stage))
    name = config_of(active, stage).split()[2]

    write_texts(sender.directory / "pools/tank/data", 10)
    for host in (serving, dialling):
        assert "right, 1 job" in await typed(host, "zrepl-trio configcheck")
    async with serving.daemon(), dialling.daemon():
        for snapshot in ("1", "2"):
            await sender.run("zfs", "snapshot", f"tank/data@{snapshot}")
            told = await dialling.replicate(name)
            assert outcome(told) == "done", told.error
    assert await snapshots(receiver, REPLICAS[active]) == ["1", "2"]


async def test_the_snap_page_does_what_it_says() -> None:
    """Its commands as they stand, in a daemon that has just started."""
    with scratch() as directory:
        async with open_stage(directory, use_sshd=False) as stage:
            host = stage.source
            await host.run("zpool", "create", "tank")
            for dataset in ("tank/data", "tank/scratch"):
                await host.run("zfs", "create", dataset)
            host.write_config(config_of("snap", stage))
            looks = next(each.text for each in blocks("docs/job-snap.md") if each.language == "sh")
            async with host.daemon():
                with trio.fail_after(30):  # it prunes once the first snapshots are there
                    await host.end_of_run("snap_system")
                told = await typed(host, looks)
            assert "ACCEPT\ttank/data\t\nREJECT\ttank/scratch\t\n" in told
            assert "snap_system" in told
            assert told.splitlines()[-1].startswith("ZREPL OK")
            (name,) = await snapshots(host, "tank/data")
            assert re.fullmatch(r"zrepl_\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d", name)
            assert await snapshots(host, "tank/scratch") == []


async def authorize(stage: Stage, passive: str) -> None:
    """A key of the dialling host's, let in by the page's own line."""
    ssh_home = stage.source.directory.parent / "ssh"
    key = ssh_home / "page_key"
    await stage.backup.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    scan = ("ssh-keyscan", "-p", sshd_port(stage), "-t", "ed25519", "127.0.0.1")
    (ssh_home / "page_known_hosts").write_text(await stage.backup.run(*scan))
    (line,) = (
        each.text for each in blocks(f"docs/job-{passive}.md") if "restrict KEY" in each.text
    )
    command, _, rest = line.partition(" stdinserver ")
    own = f'command="{SCRIPT} stdinserver --sockdir {stage.source.sockdir} {rest}'
    assert command == 'command="/usr/local/bin/zrepl-trio'
    (ssh_home / "authorized_keys").write_text(
        own.replace("KEY", key.with_suffix(".pub").read_text())
    )
