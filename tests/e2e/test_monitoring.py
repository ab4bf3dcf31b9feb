"""Two daemons that are scraped while they replicate."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import pytest

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
