"""A whole pull, two daemons joined by a real sshd, against `ssh host 'head -c N' | cat`.

Producer and sink are C programs (`head`, `cat`) behind a `zfs` of ours that does nothing else, so
that our own cost shows: planning, two ssh log-ins, both daemons, until the run is reported done.
Same sshd, same cipher, no compression.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import trio

from benches.daemons import IDENTITY, SOURCE_JOB, cpu_s, installed_command, running_daemon
from benches.measure import GIB, Figure
from zrepl_trio.children import open_processes
from zrepl_trio.control.client import ControlClient, open_control_client
from zrepl_trio.demo.openssh import OpenSsh, SshLogin, running_sshd
from zrepl_trio.process import Child

BYTES = 8 * GIB
ROUNDS = 5
PULL_JOB = """\
- name: pull
  type: pull
  root_fs: dst
  interval: manual
  connect:
    type: ssh+stdinserver
    host: "{login.host}"
    user: "{login.user}"
    port: {login.port}
    identity_file: {login.identity_file}
    options: {options}
  pruning:
    keep_sender: [{{type: regex, regex: ".*"}}]
    keep_receiver: [{{type: regex, regex: ".*"}}]
"""


@dataclass(frozen=True, slots=True)
class _Round:
    """Wall seconds of the pull, of the plain pipe, and CPU seconds of both daemons."""

    pull_s: float
    plain_s: float
    source_cpu_s: float
    puller_cpu_s: float


def measure() -> list[Figure]:
    return trio.run(_measure)


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        return await _measure_in(Path(name))


async def _measure_in(home: Path) -> list[Figure]:
    command = installed_command()
    (home / "ssh").mkdir(mode=0o700)
    proxy = f"{command} stdinserver --sockdir {home}/source/stdinserver {IDENTITY}"
    async with (
        open_processes() as processes,
        running_sshd(processes, home / "ssh", proxy) as ssh,
    ):
        plain_key = _second_key(home / "ssh", ssh)
        source = SOURCE_JOB.format(identity=IDENTITY)
        pull = PULL_JOB.format(login=ssh.login, options=[*ssh.login.options, "Compression=no"])
        async with (
            running_daemon(processes, command, home, "source", source, BYTES) as sender,
            running_daemon(processes, command, home, "puller", pull, BYTES) as puller,
            open_control_client(f"{home}/puller/control") as control,
        ):
            await _compare_random(control, home)
            rounds = [
                await _round(control, home, ssh.login, plain_key, sender, puller)
                for _ in range(ROUNDS + 1)
            ][1:]
    return _figures(rounds)


def _figures(rounds: list[_Round]) -> list[Figure]:
    gib = BYTES / GIB
    rate = sorted(gib * 1024 / one.pull_s for one in rounds)[len(rounds) // 2]
    return [
        Figure(
            "throughput / ssh | cat",
            tuple(one.plain_s / one.pull_s for one in rounds),
            1.0,
            at_most=False,
            note=f"{rate:.0f} MiB/s; {gib:g} GiB a round; random data was equal at both ends",
        ),
        Figure(
            "CPU-s/GiB of the source daemon",
            tuple(one.source_cpu_s / gib for one in rounds),
            0.25,
            at_most=True,
        ),
        Figure(
            "CPU-s/GiB of the pull daemon",
            tuple(one.puller_cpu_s / gib for one in rounds),
            0.25,
            at_most=True,
        ),
    ]


def _second_key(directory: Path, ssh: OpenSsh) -> Path:
    """A key that may run only the producer, for the plain pipe."""
    key = directory / "plain"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text()
    with (ssh.directory / "authorized_keys").open("a") as keys:
        keys.write(f'command="head -c {BYTES} /dev/zero",restrict {public}')
    return key


async def _pull(control: ControlClient, home: Path) -> float:
    """Seconds of one run, by the daemon's own clock: to ask it often would be load of its own."""
    (home / "state" / "received").unlink(missing_ok=True)
    seconds = await run_once(control)
    if not (home / "state" / "received").exists():
        raise RuntimeError("the pull ended well, but nothing was received")
    return seconds


async def run_once(control: ControlClient) -> float:
    """Have the pull run, and give the seconds it took; raises RuntimeError unless it ends well."""
    await control.signal("pull", "wakeup")
    run = None
    while run is None or not run.outcome:
        await trio.sleep(0.3)
        run = (await control.status()).job("pull").invocation
    if run.outcome != "done":
        raise RuntimeError(f"the pull ended with {run.outcome}: {run.error}")
    assert run.start_at is not None
    assert run.finish_at is not None
    return (run.finish_at - run.start_at).total_seconds()


async def _compare_random(control: ControlClient, home: Path) -> None:
    state = home / "state"
    (state / "random").touch()
    await _pull(control, home)
    (state / "random").unlink()
    if (state / "sent").read_text() != (state / "got").read_text():
        raise RuntimeError("the data that arrived is not the data that was sent")


async def _round(
    control: ControlClient, home: Path, login: SshLogin, key: Path, sender: Child, puller: Child
) -> _Round:
    before = cpu_s(sender.pid), cpu_s(puller.pid)
    pull_s = await _pull(control, home)
    after = cpu_s(sender.pid), cpu_s(puller.pid)
    plain_s = await trio.to_thread.run_sync(_plain, login, key)
    return _Round(pull_s, plain_s, after[0] - before[0], after[1] - before[1])


def _plain(login: SshLogin, key: Path) -> float:
    options = [word for option in (*login.options, "Compression=no") for word in ("-o", option)]
    argv = ["ssh", "-p", str(login.port), "-T", "-i", str(key), "-o", "BatchMode=yes", *options]
    start = time.perf_counter()
    with subprocess.Popen(
        [*argv, f"{login.user}@{login.host}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as plain:
        subprocess.run(["cat"], stdin=plain.stdout, stdout=subprocess.DEVNULL, check=True)
    if plain.returncode:
        raise RuntimeError("the plain ssh failed")
    return time.perf_counter() - start
