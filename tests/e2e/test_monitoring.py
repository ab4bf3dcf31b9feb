"""Two daemons that are scraped while they replicate."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest
import trio

from tests.e2e.stages import data, outcome, stage_with_pools
from tests.monitoring.pages import Page, parse_page
from tests.monitoring.ports import free_port
from zrepl_trio.demo.data import MIB, write_blob
from zrepl_trio.demo.host import Host
from zrepl_trio.demo.stage import IDENTITY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def monitor(host: Host) -> int:
    """Let the host's daemon serve metrics; the port."""
    port = free_port()
    entry = f"  monitoring: [{{type: prometheus, listen: '127.0.0.1:{port}'}}]\n"
    text = host.config.read_text()
    host.config.write_text(text.replace("  control:", f"{entry}  control:", 1))
    return port


async def scrape(port: int) -> Page:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return parse_page(answer.text)


def named(page: Page, name: str) -> Iterator[float]:
    return (value for key, value in page.items() if key.partition("{")[0] == name)


async def test_both_sides_tell_of_a_replication() -> None:
    async with stage_with_pools() as stage:
        source_port, backup_port = monitor(stage.source), monitor(stage.backup)
        write_blob(data(stage) / "blob", 2 * MIB, seed=1)
        await stage.source.run("zfs", "snapshot", "tank/data@1")
        taken = int(
            await stage.source.run("zfs", "get", "-Hpo", "value", "creation", "tank/data@1")
        )
        async with stage.source.daemon(), stage.backup.daemon():
            before = await scrape(backup_port)
            assert before['zrepl_trio_job_up{type="pull",zrepl_job="pull"}'] == 1
            assert "zrepl_replication_last_successful" not in {
                key.partition("{")[0] for key in before
            }
            assert before['zrepl_replication_filesystem_errors{zrepl_job="pull"}'] == 0
            assert before['zrepl_daemon_log_entries{level="info",zrepl_job="_nojobid"}'] > 0
            assert abs(next(named(before, "zrepl_start_time")) - time.time()) < 60

            assert outcome(await stage.backup.replicate("pull")) == "done"
            backup, source = await scrape(backup_port), await scrape(source_port)
            assert (
                backup[
                    'zrepl_replication_bytes_replicated{filesystem="tank/data",zrepl_job="pull"}'
                ]
                > 2 * MIB
            )
            assert backup['zrepl_replication_filesystem_errors{zrepl_job="pull"}'] == 0
            for state in ("planning", "fan-out-filesystems"):
                labels = f'{{state="{state}",zrepl_job="pull"}}'
                assert backup[f"zrepl_replication_state_time_count{labels}"] == 1
            assert backup['zrepl_control_request_begin{endpoint="/signal"}'] == 1
            assert backup['zrepl_daemon_log_entries{level="info",zrepl_job="pull"}'] > 0
            receive = 'jobid="pull",zfsbinary="zfs",zfsverb="recv"'
            assert backup[f"zrepl_zfscmd_runtime_count{{{receive}}}"] == 1
            send = 'jobid="source",zfsbinary="zfs",zfsverb="send"'
            assert source[f"zrepl_zfscmd_runtime_count{{{send}}}"] >= 1
            # the kernel guesses how much of a short command's time was whose
            times = [f"zrepl_zfscmd_{kind}time_sum{{{receive}}}" for kind in ("user", "system")]
            assert sum(backup[name] for name in times) > 0
            assert source[f"zrepl_zfscmd_systemtime_count{{{send}}}"] >= 1
            for page in (backup, source):
                assert page["zrepl_frameconn_shutdown_seconds_count"] >= 1
                assert page["zrepl_frameconn_shutdown_drain_bytes_read_count"] >= 1
                assert page['zrepl_frameconn_shutdown_close_errors{step="close"}'] == 0
            of_data = '{filesystem="tank/data"}'
            assert source[f"zrepl_zfs_list_filesystem_versions_duration_count{of_data}"] >= 1
            assert source[f"zrepl_zfs_bookmark_duration_count{of_data}"] >= 1
            unmatched = "zrepl_zfs_list_unmatched_user_specified_dataset_count"
            assert source[f'{unmatched}{{jobid="source"}}'] == 0

            sides = {"receiver": (backup, "", "pull"), "sender": (source, IDENTITY, "source")}
            for side, (page, peer, job) in sides.items():
                labels = f'{{filesystem="tank/data",peer="{peer}",side="{side}",zrepl_job="{job}"}}'
                assert page[f"zrepl_trio_newest_snapshot_time_seconds{labels}"] == taken
                assert page[f"zrepl_trio_replicated_snapshot_time_seconds{labels}"] == taken
                assert page[f"zrepl_trio_replication_lag_seconds{labels}"] == 0
        # the source is gone: what is known of the copy stays, and the failure shows
        async with stage.backup.daemon():
            assert outcome(await stage.backup.replicate("pull")) == "connect-failed"
            alone = await scrape(backup_port)
            assert alone['zrepl_replication_filesystem_errors{zrepl_job="pull"}'] == -1
            assert alone['zrepl_trio_job_last_run_success{zrepl_job="pull"}'] == 0
            assert (
                alone['zrepl_trio_job_runs_total{outcome="connect-failed",zrepl_job="pull"}'] == 1
            )
            errors = 'zrepl_trio_replication_errors_total{class="reconnect",zrepl_job="pull"}'
            assert alone[errors] == 1


async def check(host: Host, *arguments: str) -> tuple[int, str]:
    """The exit status and what is printed."""
    argv = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), "check", *arguments]
    done = await trio.run_process(
        argv, env=dict(host.env), capture_stdout=True, capture_stderr=True, check=False
    )
    assert done.stderr == b""
    return done.returncode, done.stdout.decode()


async def test_check_tells_nagios_how_it_is() -> None:
    limits = ("--max-age", "1h/2h", "--max-lag", "1h/2h")
    async with stage_with_pools() as stage:
        write_blob(data(stage) / "blob", MIB, seed=1)
        async with stage.source.daemon(), stage.backup.daemon():
            assert (await check(stage.source))[0] == 0
            code, told = await check(stage.source, *limits)
            assert (code, told.splitlines()[1:]) == (
                2,
                ["CRITICAL source: tank/data: there is no snapshot"],
            )
            await stage.source.run("zfs", "snapshot", "tank/data@1")
            assert (await check(stage.source, *limits))[0] == 0
            assert outcome(await stage.backup.replicate("pull")) == "done"
            for host in (stage.source, stage.backup):
                code, told = await check(host, *limits)
                assert code == 0, told
                assert told.startswith("ZREPL OK - 1 jobs, 1 datasets, oldest snapshot ")
                assert ";3600;7200;0 lag=0s;3600;7200;0 problems=0;;;0" in told
            code, told = await check(stage.backup, "--json", "pull", "--max-age", "0/0")
            assert code == 2
            assert json.loads(told)["findings"][0]["job"] == "pull"
            assert (await check(stage.backup, "nothing"))[0] == 3
            assert (await check(stage.backup, "--max-age", "soon"))[0] == 3
        # a daemon that was just restarted does not know yet, so ZFS is asked
        async with stage.backup.daemon():
            code, told = await check(stage.backup, *limits)
            assert code == 0, told
            assert "1 datasets, oldest snapshot" in told
            assert outcome(await stage.backup.replicate("pull")) == "connect-failed"
            code, told = await check(stage.backup, *limits)
            assert code == 1
            assert told.startswith("ZREPL WARNING - pull: the last run could not connect: ")
        code, told = await check(stage.backup)
        assert code == 2
        assert told.startswith("ZREPL CRITICAL - check: no daemon listens on ")
