"""What a simulation tells as needing a person, and what passed by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulate.setups import DAY_S, HOUR_S, PULL, SNAP, SOURCE, START, hosts_of, run, story
from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.simulate.joining import parse_join
from zrepl_trio.simulate.watching import HostWatch


def test_what_a_run_without_filesystems_shows_to_be_over_is_over(tmp_path: Path) -> None:
    """The end of a chain, to which nothing has come yet: its link was down for a while."""
    on = """
- name: on
  type: source
  serve: {type: stdinserver, client_identities: [far]}
  filesystems: {"storage/backups/tank<": true}
  snapshotting: {type: manual}
"""
    hosts = hosts_of(
        tmp_path, app=SOURCE, backup=PULL + on, far=PULL.replace("app.example.com", "backup")
    )
    report = run(
        hosts,
        days=1,
        outages=["link app-backup 2026-01-01 for 3d", "link backup-far 2026-01-01 for 12h"],
    )
    assert [(each.host, each.lasts) for each in report.troubles] == [
        ("backup", True),
        ("far", False),
    ]


def ended(outcome: Outcome, error: str = "") -> Invocation:
    """One that has ended."""
    return Invocation(number=1, started=START, finished=START, outcome=outcome, error=error)


def test_one_failed_run_of_a_snap_job_is_over_after_the_next() -> None:
    watch = HostWatch("host", SimulatedClock(START))
    watch.run_ended("snap", ended(Outcome.FAILED, "zfs is away"))
    (trouble,) = watch.troubles()
    assert trouble.lasts
    watch.run_ended("other", ended(Outcome.DONE))
    assert watch.troubles() == [trouble], "another job's run says nothing of it"
    watch.run_ended("snap", ended(Outcome.DONE))
    (trouble,) = watch.troubles()
    assert not trouble.lasts


def test_an_outage_that_lasts_needs_a_person(tmp_path: Path) -> None:
    report = run(
        hosts_of(tmp_path, app=SOURCE, backup=PULL),
        days=2,
        outages=["link app-backup 2026-01-02 for 30d"],
    )
    (trouble,) = report.needs_a_person
    assert (trouble.host, trouble.job, trouble.kind) == ("backup", "pull", "run")
    assert trouble.times > 3
    replica = story(report, "backup", "storage/backups/tank/a")
    assert replica.lag_s == pytest.approx(DAY_S, abs=2 * HOUR_S)


def test_a_conflict_is_told_with_its_filesystem(tmp_path: Path) -> None:
    """Two sources of one tree push into one place: what the second has does not fit."""
    push = SOURCE.replace("type: source", "type: push").replace(
        "serve: {type: stdinserver, client_identities: [backup]}",
        "connect: {type: tcp, address: 'h:1'}\n"
        "  pruning: {keep_sender: [{type: regex, regex: '.'}], keep_receiver: [{type: regex, regex: '.'}]}",
    )
    sink = """
jobs:
- {name: sink, type: sink, root_fs: storage, recv: {placeholder: {encryption: inherit}},
   serve: {type: tcp, listen: ":1", clients: {"::1": app}}}
"""
    said = parse_join("two/source=backup/sink:app")
    report = run(hosts_of(tmp_path, one=push, two=push, backup=sink), days=0.5, joins=[said])
    assert "one/source and two/source are the same client 'app'" in report.notes[0]
    assert report.needs_a_person
    for trouble in report.needs_a_person:
        assert trouble.kind == "conflict"
        assert trouble.filesystem in {"tank/a", "tank/b"}
        assert trouble.filesystem in trouble.text
        assert trouble.times > 3
    assert {line.level for line in report.logged} >= {"error"}
    told = [line for line in report.logged if "\n" in line.text]
    assert told
    assert all(line.times > 3 for line in told), (
        "each run's list of snapshots makes it another line"
    )
    assert len(report.logged) < 20


def test_snapshots_that_cannot_be_taken_need_a_person(tmp_path: Path) -> None:
    """One filesystem's name leaves too little for the snapshot's; the job's runs go well."""
    text = SNAP.replace("prefix: zrepl_", f"prefix: {'x' * 200}_")
    long = f"tank/{'y' * 60}"
    report = run(hosts_of(tmp_path, host=text), workloads=[f"{long} writes=1MiB"])
    (trouble,) = report.needs_a_person
    assert (trouble.kind, trouble.job, trouble.filesystem) == ("snapshot", "snap", long)
    assert trouble.times == 4
    assert trouble.first == START
    assert long in trouble.text
    (other,) = (s for s in report.datasets if s.dataset != long)
    assert other.snapshots == 4


def test_what_pruning_leaves_until_somebody_confirms_it_needs_a_person(tmp_path: Path) -> None:
    """The push job takes none with the prefix of the snap job, and is not told to prune them."""
    text = (
        SNAP
        + """
- name: push
  type: push
  connect: {type: local, listener_name: disk, client_identity: me}
  filesystems: {"tank<": true}
  snapshotting: {type: periodic, interval: 1h, prefix: other_}
  pruning: {keep_sender: [{type: regex, regex: "."}], keep_receiver: [{type: last_n, count: 2}]}
- {name: disk, type: sink, root_fs: disk/backups, serve: {type: local, listener_name: disk},
   recv: {placeholder: {encryption: inherit}}}
"""
    )
    report = run(hosts_of(tmp_path, host=text))
    (trouble,) = report.needs_a_person
    assert (trouble.kind, trouble.job, trouble.filesystem) == ("pruning", "push", "tank")
    assert "snapshots on the receiver that the job did not take" in trouble.text
    assert "zrepl-trio plan --prune push" in trouble.text
    assert trouble.times > 12
    document = json.loads(json.dumps(report.to_json()))
    assert document["troubles"][-1]["needs_a_person"] is True


def test_what_a_floor_keeps_is_told_and_needs_nobody(tmp_path: Path) -> None:
    source = SOURCE.replace(
        "snapshotting", "pruning: {floor: [{type: last_n, count: 9}]}\n  snapshotting"
    )
    pull = PULL.replace(
        'keep_sender: [{type: regex, regex: ".*"}]', "keep_sender: [{type: last_n, count: 1}]"
    )
    report = run(hosts_of(tmp_path, app=source, backup=pull))
    (floor,) = report.floors
    assert (floor.host, floor.job, floor.client) == ("app", "source", "backup")
    assert floor.most == 8
    assert floor.times > 20
    assert report.troubles == ()
    (told,) = json.loads(json.dumps(report.to_json()))["left_by_floors"]
    assert told["most_snapshots"] == 8
