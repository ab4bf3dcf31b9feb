"""What may be wrong on a receiver: the one filesystem says what and what to do, the others go on, and
once it is gone the next run converges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.marks import LAST, ONCE, cursor
from tests.replication.notation import path
from tests.replication.pair import MIB, the
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.report import FilesystemState, Outcome
from zrepl_trio.zfs.model import ReceiveArgs, SendArgs, SendFlags

pytestmark = pytest.mark.slow

A, B = "ztsrc/a", "ztsrc/b"


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts("real", tmp_path) as opened:
        yield opened


async def take(hosts: Hosts, snapshot: str, size: int = MIB) -> None:
    """A snapshot of both filesystems with something new in each."""
    for name in (A, B):
        await hosts.fill(name, size, seed=int(snapshot))
        await hosts.snapshot(name, snapshot)


async def begin(hosts: Hosts, *options: str) -> None:
    """Both filesystems, replicated once, and a second snapshot to go."""
    for name in (A, B):
        await hosts.create(name, *options)
    await take(hosts, "1")
    report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    await take(hosts, "2")


async def refused(hosts: Hosts, *said: str, options: ReplicationOptions = ONCE) -> None:
    """A run in which A alone cannot go on, and says why."""
    report = await hosts.run(options)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    error = the(report, A).error
    assert error is not None
    for text in (hosts.local(A), *said):
        assert text in error.text
    assert the(report, B).state is FilesystemState.DONE
    assert (await hosts.received(B))[-1] == (await hosts.zfs.versions(path(B)))[-1].name


async def converges(
    hosts: Hosts, *, options: ReplicationOptions = ONCE, has: str = "1 2", looks: bool = True
) -> None:
    """Now all goes well, and nothing is left over."""
    report = await hosts.run(options)
    assert report.outcome is Outcome.DONE, report.error
    assert await hosts.received(A) == has.split()
    for name in (A, B):
        newest = (await hosts.received(name))[-1]
        (version,) = [v for v in await hosts.zfs.versions(path(name)) if v.name == newest]
        assert await hosts.marks(path(name)) == {cursor(version.guid)}
        assert f"@{newest}={LAST}" in await hosts.marks(hosts.local(name))
        if looks:
            assert await hosts.same(name, newest)


async def mounted(hosts: Hosts, name: str) -> Path:
    """Where the replica is mounted from now on; to look at it is not to change it."""
    local, there = hosts.local(name), hosts.directory / "mounted"
    await hosts.command("set", f"mountpoint={there}", "atime=off", local)
    if (await hosts.value(local, "mounted"))[0] != "yes":
        await hosts.command("mount", local)
    return there


# --- a quota, and what is read-only ---


@pytest.mark.thorough
async def test_a_full_quota_stops_its_own_filesystem(hosts: Hosts) -> None:
    await begin(hosts)
    await take(hosts, "3", 12 * MIB)
    await hosts.command("set", f"quota={6 * MIB}", hosts.local(A))
    await refused(hosts, "space", "free space or raise the quota there; the next run goes on")
    assert (await hosts.received(B)) == ["1", "2", "3"]
    await hosts.command("set", "quota=none", hosts.local(A))
    await converges(hosts, has="1 2 3")


@pytest.mark.thorough
async def test_readonly_replicas_are_received_into(hosts: Hosts) -> None:
    await hosts.command("set", "readonly=on", "ztdst/sink")
    await begin(hosts)
    there = await mounted(hosts, A)
    assert (await hosts.value(hosts.local(A), "readonly"))[0] == "on"
    await converges(hosts, looks=False)
    assert {file.name for file in there.iterdir()} == {"file1", "file2"}


@pytest.mark.zfs
async def test_a_pool_imported_read_only_is_named_and_left_as_it_is(
    real: Hosts, tmp_path: Path
) -> None:
    await begin(real)
    await real.create("ztsrc/new")
    await real.snapshot("ztsrc/new", "1")
    await _imported(real, tmp_path, "ztdst", "-o", "readonly=on")
    report = await real.run(ONCE)
    for name in (A, B, "ztsrc/new"):
        error = the(report, name).error
        assert error is not None
        assert real.local(name) in error.text
        assert "pool is read-only" in error.text
        assert "import it without" in error.text
    await _imported(real, tmp_path, "ztdst")
    await converges(real)
    assert await real.received("ztsrc/new") == ["1"]


@pytest.mark.zfs
async def test_a_pool_that_is_sent_from_read_only_is_so_without_holds(
    real: Hosts, tmp_path: Path
) -> None:
    await begin(real)
    await _imported(real, tmp_path, "ztsrc", "-o", "readonly=on")
    report = await real.run(ONCE)
    for name in (A, B):
        error = the(report, name).error
        assert error is not None
        assert f"{name}: " in error.text
        assert "guarantee_nothing" in error.text
    nothing = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)
    report = await real.run(ReplicationOptions(attempts=1, protection=nothing))
    assert await real.received(A) == ["1", "2"], report.error
    await _imported(real, tmp_path, "ztsrc")
    await take(real, "3")
    await converges(real, has="1 2 3")


async def _imported(hosts: Hosts, directory: Path, pool: str, *options: str) -> None:
    for words in (("export", pool), ("import", "-d", str(directory), *options, pool)):
        done = await hosts.processes.run([hosts.zpool_command, *words])
        assert done.status == 0, done.stderr.decode()


# --- busy ---


@pytest.mark.thorough
async def test_anybody_elses_holds_on_a_replica_are_in_nobodys_way(hosts: Hosts) -> None:
    await begin(hosts)
    local = hosts.local(A)
    await hosts.zfs.hold(local, ["1"], "mine")
    await converges(hosts)
    assert "@1=mine" in await hosts.marks(local)
    (one, _) = await hosts.zfs.versions(local)
    (result,) = await hosts.receiver.destroy_snapshots(path(A), [one])
    assert f"{local}@1" in result.error
    assert "`zfs holds -r` shows holds" in result.error
    await hosts.zfs.release(local, ["1"], "mine")
    (result,) = await hosts.receiver.destroy_snapshots(path(A), [one])
    assert not result.error


@asynccontextmanager
async def receiving(hosts: Hosts, snapshot: str, *, resumable: bool = True) -> AsyncIterator[None]:
    """In the block, somebody else receives A's new snapshot into the replica, and is half way."""
    await hosts.fill(A, 16 * MIB, seed=9)
    to = await hosts.snapshot(A, snapshot)
    (one,) = [v for v in await hosts.zfs.versions(path(A)) if v.is_snapshot and v.name == "1"]
    stream = bytearray()
    async with hosts.zfs.open_send(SendArgs(dataset=path(A), from_=one, to=to)) as send:
        while chunk := await send.reader.receive_some(MIB):
            stream += chunk
        await send.finish()
    args = ReceiveArgs(dataset=hosts.local(A), snapshot=snapshot, resumable=resumable)
    async with hosts.zfs.open_receive(args) as other:
        # far more than pipes hold, so zfs is at it
        await other.writer.send_all(stream[: len(stream) // 2])
        yield


@pytest.mark.parametrize("resumable", [True, pytest.param(False, marks=pytest.mark.thorough)])
async def test_what_another_process_receives_into_is_left_to_it(
    hosts: Hosts, resumable: bool
) -> None:
    await begin(hosts)
    async with receiving(hosts, "3", resumable=resumable):
        said = "another receive runs" if resumable else "a running send or receive also keeps it"
        await refused(hosts, said)
        assert await hosts.received(A) == ["1"]
    # what is kept of it is as good as ours
    await converges(hosts, has="1 3" if resumable else "1 2 3")


async def test_what_another_process_still_receives_is_not_dropped(hosts: Hosts) -> None:
    """Its state is of no use to this job, which drops it once nobody is at it."""
    await begin(hosts)
    async with receiving(hosts, "gone"):
        await hosts.zfs.destroy_snapshots(path(A), ["gone"])
        await refused(hosts, "dataset is busy", "a running send or receive also keeps it")
    dataset = await hosts.zfs.dataset(hosts.local(A))
    assert dataset is not None
    assert dataset.resume_token is not None
    await take(hosts, "3")
    await converges(hosts, has="1 2 3")


async def test_files_open_in_a_mounted_replica_stop_no_increment(hosts: Hosts) -> None:
    await begin(hosts)
    there = await mounted(hosts, A)
    with (there / "file1").open("rb") as file:
        await converges(hosts, looks=False)
        assert len(file.read()) == MIB
    assert {file.name for file in there.iterdir()} == {"file1", "file2"}
    await take(hosts, "3")
    await converges(hosts, has="1 2 3")


@pytest.mark.zfs
async def test_files_open_in_a_replica_stop_its_setting_aside(real: Hosts) -> None:
    await begin(real)
    there = await mounted(real, A)
    await real.zfs.snapshot(real.local(A), "own")
    keep = ReplicationOptions(attempts=1, divergence=DivergencePolicy.KEEP_COPY)
    with (there / "file1").open("rb"):
        await refused(real, "a process has files open there: `fuser -vm`", options=keep)
        assert await real.received(A) == ["1", "own"]
    await converges(real, options=keep, has="2")


async def test_a_modified_replica_is_left_alone_until_it_is_rolled_back(hosts: Hosts) -> None:
    """For the ways out that the job has, see test_modified."""
    await begin(hosts)
    there = await mounted(hosts, A)
    (there / "own").write_bytes(b"precious")
    await refused(
        hosts,
        "has been modified since most recent snapshot",
        "`zfs rollback`",
        "`conflict_resolution.divergence`",
        "keep it unmounted or read-only",
        options=ReplicationOptions(),
    )
    assert (there / "own").read_bytes() == b"precious"
    assert await hosts.received(A) == ["1"]
    await hosts.command("rollback", f"{hosts.local(A)}@1")
    await converges(hosts)


# --- encryption ---


def encrypted(directory: Path) -> list[str]:
    """Options of an encryption root, whose key lies in a file."""
    key = directory / "key"
    key.write_text("12345678\n")
    return [
        *("-o", "encryption=on", "-o", "keyformat=passphrase"),
        *("-o", f"keylocation=file://{key}", "-o", "pbkdf2iters=100000"),
    ]


async def sink_is_encrypted(hosts: Hosts, options: list[str]) -> None:
    await hosts.command("destroy", "ztdst/sink")
    await hosts.create("ztdst/sink", "-o", "mountpoint=none", *options)


async def encryption_of(hosts: Hosts, name: str) -> tuple[str, str]:
    """Whether the replica is encrypted, and whose key it has."""
    local = hosts.local(name)
    algorithm, _ = await hosts.value(local, "encryption")
    root, _ = await hosts.value(local, "encryptionroot")
    return ("off" if algorithm == "off" else "on"), root


async def all_refused(hosts: Hosts, *names: str, said: str) -> None:
    report = await hosts.run(ONCE)
    for name in names:
        error = the(report, name).error
        assert error is not None
        assert hosts.local(name) in error.text
        assert said in error.text


@pytest.mark.zfs
@pytest.mark.parametrize("below", [pytest.param("plain", marks=pytest.mark.thorough), "encrypted"])
async def test_raw_streams_keep_their_own_key_below_any_root(
    real: Hosts, tmp_path: Path, below: str
) -> None:
    options = encrypted(tmp_path)
    if below == "encrypted":
        await sink_is_encrypted(real, options)
    real.send_with(SendFlags(encrypted=True))
    await begin(real, *options)
    # no key needs to be loaded
    for name in (A, B):
        await real.command("unmount", name)
        await real.command("unload-key", name)
    if below == "encrypted":
        await real.command("unload-key", "ztdst/sink")
    await converges(real, looks=False)
    for name in (A, B):
        assert await encryption_of(real, name) == ("on", real.local(name))


@pytest.mark.zfs
async def test_plain_streams_are_encrypted_by_the_root_they_lie_below(
    real: Hosts, tmp_path: Path
) -> None:
    options = encrypted(tmp_path)
    await sink_is_encrypted(real, options)
    await real.create(A)
    await real.create(B, *options)
    await take(real, "1")
    report = await real.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    await take(real, "2")
    await real.create("ztsrc/new")
    await real.snapshot("ztsrc/new", "1")
    await real.command("unload-key", "-r", "ztdst/sink")
    await all_refused(real, A, B, "ztsrc/new", said="run `zfs load-key`")
    await real.command("load-key", "ztdst/sink")
    await converges(real)
    for name in (A, B, "ztsrc/new"):
        assert await encryption_of(real, name) == ("on", "ztdst/sink")


@pytest.mark.zfs
@pytest.mark.parametrize("first", ["raw", pytest.param("plain", marks=pytest.mark.thorough)])
async def test_a_replica_goes_on_as_it_began_raw_or_not(
    real: Hosts, tmp_path: Path, first: str
) -> None:
    raw, plain = SendFlags(encrypted=True), SendFlags()
    began, other = (raw, plain) if first == "raw" else (plain, raw)
    real.send_with(began)
    await begin(real, *encrypted(tmp_path))
    real.send_with(other)
    advice = f"`send.encrypted: {'true' if first == 'raw' else 'false'}`"
    await all_refused(real, A, B, said=advice)
    assert await real.received(A) == ["1"]
    real.send_with(began)
    await converges(real, looks=False)
    for name in (A, B):
        there = ("on", real.local(name)) if first == "raw" else ("off", "-")
        assert await encryption_of(real, name) == there


@pytest.mark.zfs
async def test_a_raw_step_onto_what_its_root_encrypted_is_refused(
    real: Hosts, tmp_path: Path
) -> None:
    options = encrypted(tmp_path)
    await sink_is_encrypted(real, options)
    await begin(real, *options)
    real.send_with(SendFlags(encrypted=True))
    await all_refused(real, A, B, said="`send.encrypted: false`")
    real.send_with(SendFlags())
    await converges(real)


@pytest.mark.zfs
@pytest.mark.parametrize("raw", [True, pytest.param(False, marks=pytest.mark.thorough)])
async def test_a_dataset_that_the_job_would_not_send_as_it_is_stops_alone(
    real: Hosts, tmp_path: Path, raw: bool
) -> None:
    options = encrypted(tmp_path)
    await real.create(A, *(options if raw else ()))
    await real.create(B, *(() if raw else options))
    for name in "12":
        await take(real, name)
    real.send_with(SendFlags(raw=True) if raw else SendFlags(encrypted=True))
    report = await real.run(ONCE)
    error = the(report, A).error
    assert error is not None
    assert f"{A} is {'encrypted' if raw else 'not encrypted'}" in error.text
    assert "send.encrypted" in error.text
    assert the(report, B).state is FilesystemState.DONE
    assert await real.zfs.dataset(real.local(A)) is None
    real.send_with(SendFlags(encrypted=True) if raw else SendFlags())
    report = await real.run(ONCE)
    assert await real.received(A) == ["2"], report.error


@pytest.mark.zfs
async def test_a_sender_without_its_key_says_so_and_the_others_go_on(
    real: Hosts, tmp_path: Path
) -> None:
    await real.create(A, *encrypted(tmp_path))
    await real.create(B)
    await take(real, "1")
    report = await real.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    await take(real, "2")
    await real.command("unmount", A)
    await real.command("unload-key", A)
    await refused_by_the_sender(real)
    await real.command("load-key", A)
    await real.command("mount", A)
    await converges(real)


async def refused_by_the_sender(hosts: Hosts) -> None:
    report = await hosts.run(ONCE)
    error = the(report, A).error
    assert error is not None
    assert f"zfs send of {A}@2 failed" in error.text
    assert "run `zfs load-key`" in error.text
    assert the(report, B).state is FilesystemState.DONE
