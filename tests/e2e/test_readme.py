"""The README's quick start, block by block, as a new user would go through it.

The two hosts are pretended (emulated pools, an sshd of our own), so places are exchanged: paths
below /etc and /usr/local, the host's name and its port. Nothing else is. What is not for walking is
tested in tests/docs/test_readme.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from tests.e2e.stages import same_files, snapshots, stage_with_pools
from tests.support.docs import block
from zrepl_trio.demo.data import write_texts
from zrepl_trio.demo.host import Host
from zrepl_trio.demo.openssh import find_sshd
from zrepl_trio.demo.stage import Stage

IDENTITY = "backup-srv.example.com"
SCRIPT = Path(sys.executable).with_name("zrepl-trio")


def needs_sshd(test: Callable[..., object]) -> Callable[..., object]:
    """Marks a test that logs in."""
    for mark in (
        pytest.mark.sshd,
        pytest.mark.slow,
        pytest.mark.timeout(180),
        pytest.mark.skipif(find_sshd() is None, reason="OpenSSH's sshd is not installed"),
        pytest.mark.skipif(not SCRIPT.exists(), reason="the console script is not installed"),
    ):
        test = mark(test)
    return test


def sshd_port(stage: Stage) -> str:
    config = (stage.source.directory.parent / "ssh/sshd_config").read_text()
    found = re.search(r"^ListenAddress .*:(\d+)$", config, re.MULTILINE)
    assert found
    return found[1]


async def typed(host: Host, lines: str) -> str:
    """Type the lines into a shell there, stop at the first that fails; what they print."""
    own = f"{shlex.quote(str(SCRIPT))} --config {shlex.quote(str(host.config))}"
    return await host.run(
        "/bin/sh", "-e", "-c", re.sub(r"^zrepl-trio\b", own, lines, flags=re.MULTILINE)
    )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with stage_with_pools(use_sshd=True) as made:
        yield made


@needs_sshd
@pytest.mark.parametrize("form", ["authorized-keys", "authorized-keys-old"])
async def test_the_quick_start_works_as_written(stage: Stage, form: str) -> None:
    home = stage.backup.directory
    ssh_home = home.parent / "ssh"
    port = sshd_port(stage)

    def here(text: str) -> str:
        return (
            text.replace("/etc/zrepl", f"{home}/etc/zrepl")
            .replace("/etc/ssh/ssh_host_ed25519_key.pub", f"{ssh_home}/host_key.pub")
            .replace("-t ed25519 app-srv.example.com", f"-p {port} -t ed25519 127.0.0.1")
            .replace("host: app-srv.example.com", "host: 127.0.0.1")
            .replace("port: 22\n", f"port: {port}\n")
        )

    key = (await typed(stage.backup, here(block("key")))).strip()
    scanned = await typed(stage.backup, here(block("hostkey")))
    there = await typed(stage.source, f"ssh-keygen -lf {ssh_home}/host_key.pub")
    assert scanned.split()[:2] == there.split()[:2]

    line = block(form).replace("KEY", key)
    proxy = f"{SCRIPT} stdinserver --sockdir {stage.source.sockdir} {IDENTITY}"
    line = line.replace(f"/usr/local/bin/zrepl-trio stdinserver {IDENTITY}", proxy)
    (ssh_home / "authorized_keys").write_text(line)
    assert block("sshd-config") in (ssh_home / "sshd_config").read_text()

    for host, name in ((stage.source, "source-config"), (stage.backup, "pull-config")):
        jobs = here(block(name)).partition("jobs:\n")[2]
        host.write_config(jobs.replace("user: root", f"user: {host_user()}"))

    write_texts(stage.source.directory / "pools/tank/data", 10)
    check, run = block("run").splitlines()
    assert run == "zrepl-trio run"
    for host in (stage.source, stage.backup):
        assert "right, 1 job" in await typed(host, check)
    async with stage.source.daemon(), stage.backup.daemon():
        await typed(stage.source, block("snapshot"))
        with trio.fail_after(60):
            seen = await typed(stage.backup, block("look"))
    assert "all done" in seen
    assert "storage/backups/tank/data@first" in seen
    assert await snapshots(stage.backup, "storage/backups/tank/data") == ["first"]
    assert await same_files(stage)


def host_user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
