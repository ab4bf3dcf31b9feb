"""Hosts by their configs, and which datasets they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulate.setups import PULL, SOURCE, hosts_of
from zrepl_trio.config.model import SourceJob
from zrepl_trio.config.rules import PeriodicSnapshotting
from zrepl_trio.errors import ConfigErrors, Refused
from zrepl_trio.simulate.datasets import initial_datasets
from zrepl_trio.simulate.hosts import load_hosts
from zrepl_trio.simulate.workload import parse_workload

HOOKS = """
jobs:
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank/db<": true}
  send: {bandwidth_limit: {max: 1 MiB}}
  snapshotting:
    type: periodic
    interval: 1h
    prefix: zrepl_
    hooks:
    - {type: command, path: /bin/true}
    - {type: postgres-checkpoint, dsn: "host=x", filesystems: {"tank/db": true}}
"""

MANUAL = """
jobs:
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank/a": true}
  snapshotting: {type: manual}
"""


def test_hosts_are_named_by_their_files_or_by_hand(tmp_path: Path) -> None:
    (tmp_path / "one.yml").write_text(SOURCE)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "one.yml").write_text(SOURCE)
    first, second = f"{tmp_path}/one.yml", f"{tmp_path}/two/one.yml"
    assert [host.name for host in load_hosts([first])] == ["one"]
    assert [host.name for host in load_hosts([first, f"b={second}"])] == ["one", "b"]
    with pytest.raises(Refused, match="would both be host 'one': name them"):
        load_hosts([first, second])
    with pytest.raises(Refused, match="no name for a host"):
        load_hosts([f"={second}"])
    with pytest.raises(ConfigErrors, match=r"nowhere\.yml"):
        load_hosts([f"{tmp_path}/nowhere.yml"])


def test_a_config_that_the_daemon_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="prefix"):
        hosts_of(tmp_path, app=SOURCE.replace("prefix: zrepl_", 'prefix: "@"'))
    with pytest.raises(Refused, match="nothing to simulate"):
        hosts_of(tmp_path, app="jobs: []")


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    (host,) = hosts_of(tmp_path, app=HOOKS)
    (job,) = host.config.jobs
    assert isinstance(job, SourceJob)
    assert isinstance(job.snapshotting, PeriodicSnapshotting)
    assert job.snapshotting.hooks == ()
    assert not job.send.bandwidth_limit.limited
    hooks, limit = host.notes
    assert "app: job source: its 2 hooks are not run" in hooks
    assert "send.bandwidth_limit is not kept to" in limit


def test_snapshots_by_other_means_are_there_when_asked_for(tmp_path: Path) -> None:
    (host,) = hosts_of(tmp_path, app=MANUAL)
    assert "taken by other means, so here there are none" in host.notes[0]
    (host,) = load_hosts([f"{tmp_path}/app.yml"], manual_every_s=7200)
    (job,) = host.config.jobs
    assert isinstance(job, SourceJob)
    assert isinstance(job.snapshotting, PeriodicSnapshotting)
    assert (job.snapshotting.interval, job.snapshotting.prefix) == (7200, "zrepl_")
    assert "here, zrepl_ every 2h" in host.notes[0]


def test_a_job_that_nobody_wakes_is_told(tmp_path: Path) -> None:
    pull = PULL.replace("interval: 1h", "interval: manual")
    (host,) = hosts_of(tmp_path, backup=pull)
    (note,) = host.notes
    assert note.startswith("backup: job pull: its interval is manual")
    assert "never runs" in note
    (host,) = hosts_of(tmp_path, backup=pull.replace("manual", "manual\n  run_at_start: true"))
    assert "runs once, at the start" in host.notes[0]
    push = MANUAL.replace("type: source", "type: push").replace(
        "serve: {type: stdinserver, client_identities: [backup]}",
        "connect: {type: tcp, address: 'h:1'}\n"
        "  pruning: {keep_sender: [{type: regex, regex: '.'}], keep_receiver: [{type: regex, regex: '.'}]}",
    )
    (host,) = hosts_of(tmp_path, app=push)
    assert "here there are none, and it never runs" in host.notes[0]
    (host,) = load_hosts([f"{tmp_path}/app.yml"], manual_every_s=7200)
    assert "never" not in host.notes[0]
    (host,) = hosts_of(tmp_path, app=MANUAL)
    assert "never" not in host.notes[0]


def initial(directory: Path, *workloads: str, **configs: str) -> dict[str, list[str]]:
    found = initial_datasets(hosts_of(directory, **configs), [parse_workload(w) for w in workloads])
    return {
        host: [
            each.path
            + (f" {int(each.workload.writes / 2**20)}" if each.workload else "")
            + (" encrypted" if each.encrypted else "")
            for each in datasets
        ]
        for host, datasets in found.items()
    }


def test_datasets_are_those_that_filters_name(tmp_path: Path) -> None:
    text = SOURCE.replace(
        '{"tank/a": true, "tank/b": true}',
        '{"tank<": true, "tank": false, "tank/a<": true, "tank/a/tmp<": false, "tank/a/x": true}',
    )
    assert initial(tmp_path, app=text, backup=PULL) == {
        "app": ["tank/a 64", "tank/a/x 64"],
        "backup": ["storage/backups"],
    }


def test_datasets_may_be_added_and_workloads_go_from_all_to_one(tmp_path: Path) -> None:
    found = initial(
        tmp_path,
        "tank/a/new writes=3MiB",
        "* writes=1MiB",
        "app:* writes=2MiB",
        "app:tank/b writes=0B",
        app=SOURCE.replace('"tank/a"', '"tank/a<"'),
        backup=PULL,
    )
    assert found["app"] == ["tank/a 2", "tank/a/new 3", "tank/b 0"]


def test_what_must_be_encrypted_is(tmp_path: Path) -> None:
    text = SOURCE.replace("  snapshotting", "  send: {encrypted: true}\n  snapshotting")
    assert initial(tmp_path, app=text)["app"] == ["tank/a 64 encrypted", "tank/b 64 encrypted"]


def test_what_is_above_what_must_be_encrypted_is_as_well_where_a_job_sends_it(
    tmp_path: Path,
) -> None:
    text = SOURCE.replace("  snapshotting", "  send: {encrypted: true}\n  snapshotting")
    below = text.replace('"tank/a": true, "tank/b": true', '"tank/a<": true')
    assert initial(tmp_path, "tank/a/b/c", app=below)["app"] == [
        "tank/a 64 encrypted",
        "tank/a/b encrypted",
        "tank/a/b/c 64 encrypted",
    ]
    assert initial(tmp_path, "tank/x/y", app=below.replace("tank/a<", "<"))["app"] == [
        "tank encrypted",
        "tank/x encrypted",
        "tank/x/y 64 encrypted",
    ]


def test_replicas_are_not_written_to(tmp_path: Path) -> None:
    """A host in the middle of a chain offers what it keeps."""
    on = SOURCE.replace("jobs:\n", "").replace(
        '{"tank/a": true, "tank/b": true}', '{"storage/backups<": true}'
    )
    assert initial(tmp_path, near=PULL + on) == {"near": ["storage/backups"]}


@pytest.mark.parametrize(
    ("workload", "says"),
    [
        ("nowhere:tank/a", "there is no host 'nowhere'; the hosts are app, other"),
        ("nowhere:*", "there is no host 'nowhere'"),
        ("app:tank/c", "no job on app snapshots or sends tank/c"),
        ("tank/c", "no job on any host snapshots or sends tank/c"),
        ("tank/a", "is on several hosts: say app:tank/a or other:tank/a"),
        ("app:tank/@", "--workload"),
    ],
)
def test_a_workload_that_fits_nothing_is_refused(tmp_path: Path, workload: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        initial(tmp_path, workload, app=SOURCE, other=SOURCE)


def test_a_filter_that_names_no_dataset_needs_a_workload(tmp_path: Path) -> None:
    text = SOURCE.replace('{"tank/a": true, "tank/b": true}', '{"<": true}')
    with pytest.raises(Refused, match="names no dataset by itself: name some that it admits"):
        initial(tmp_path, app=text)
    assert initial(tmp_path, "tank/x/y", app=text)["app"] == ["tank/x/y 64"]
