"""Whole simulations: the daemon's own jobs on a test clock and pools in memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulate.setups import DAY_S, HOUR_S, PULL, SNAP, SOURCE, START, hosts_of, run, story
from zrepl_trio.simulate import simulation
from zrepl_trio.simulate.report import Rung, ladder_of


@pytest.mark.parametrize("wire", [False, True], ids=["direct", "wire"])
def test_a_source_and_a_puller(tmp_path: Path, wire: bool) -> None:
    report = run(hosts_of(tmp_path, app=SOURCE, backup=PULL), wire=wire)
    assert [(s.host, s.dataset, s.origin) for s in report.datasets] == [
        ("app", "tank/a", "app:tank/a"),
        ("backup", "storage/backups/tank/a", "app:tank/a"),
        ("app", "tank/b", "app:tank/b"),
        ("backup", "storage/backups/tank/b", "app:tank/b"),
    ]
    ours, theirs = (
        story(report, *at) for at in (("app", "tank/a"), ("backup", "storage/backups/tank/a"))
    )
    assert (ours.snapshots, theirs.snapshots) == (24, 23), "what is due at the end is not there yet"
    assert ours.oldest == START, "a snapshot has the time of the simulated clock"
    assert theirs.first_copy_s == HOUR_S
    assert theirs.worst_lag_s is not None
    assert HOUR_S <= theirs.worst_lag_s <= 2 * HOUR_S
    assert theirs.bytes_received == pytest.approx(theirs.space)
    (link,) = report.links
    assert link.runs == 23
    assert (link.failed, link.down) == (0, ())
    assert (report.troubles, report.logged) == ((), ())


@pytest.mark.parametrize("seed", [1, 5, 7])
def test_the_wire_makes_no_difference_to_the_report(tmp_path: Path, seed: int) -> None:
    """Although jobs of both hosts, a sample and the end come at the same moments."""
    hosts = hosts_of(tmp_path, app=SOURCE, backup=PULL)
    direct, wire = (
        run(hosts, days=0.5, seed=seed, wire=wire, outages=["link app-backup daily 03:30 for 2h"])
        for wire in (False, True)
    )
    assert direct == replace(wire, wire=False)


def outcome(directory: Path, seed: int, hash_seed: str) -> tuple[str, str]:
    """Report and log of a run in a process of its own."""
    program = f"""
import io, json
from pathlib import Path
from tests.simulate.setups import *
log = io.StringIO()
report = run(hosts_of(Path({str(directory)!r}), app=SOURCE, backup=PULL), seed={seed}, days=2, log=log,
             wire={seed % 2 == 0}, outages=["link app-backup daily 03:30 for 2h"])
print(json.dumps([json.dumps(report.to_json()), log.getvalue()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    report, log = json.loads(done.stdout)
    return report, log


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2], ids=["direct", "wire"])
def test_the_same_seed_gives_the_same_run_to_the_byte(tmp_path: Path, seed: int) -> None:
    """Also in another process, where sets of texts have another order."""
    first = outcome(tmp_path, seed, "1")
    assert len(first[1].splitlines()) > 100
    assert first == outcome(tmp_path, seed, "2")
    assert first[0] != outcome(tmp_path, seed + 2, "1")[0], "nothing depends on the seed"


@pytest.mark.parametrize("wire", [False, True], ids=["direct", "wire"])
def test_what_the_serving_side_logs_is_its_own(tmp_path: Path, wire: bool) -> None:
    source = SOURCE.replace(
        "snapshotting", "pruning: {floor: [{type: last_n, count: 9}]}\n  snapshotting"
    )
    pull = PULL.replace(
        'keep_sender: [{type: regex, regex: ".*"}]', "keep_sender: [{type: last_n, count: 1}]"
    )
    log = io.StringIO()
    run(hosts_of(tmp_path, app=source, backup=pull), days=0.3, wire=wire, log=log)
    refused = [line for line in log.getvalue().splitlines() if "that the floor keeps" in line]
    assert refused
    assert all("job=source" in line and "host=app" in line for line in refused)
    ours = [line for line in log.getvalue().splitlines() if "invocation finished" in line]
    assert ours
    assert all("job=pull" in line and "host=backup" in line for line in ours)


def test_an_outage_shows_as_lag_and_passes(tmp_path: Path) -> None:
    log = io.StringIO()
    report = run(
        hosts_of(tmp_path, app=SOURCE, backup=PULL),
        days=3,
        outages=["link backup-app 2026-01-02 06:00 for 12h"],
        log=log,
    )
    replica = story(report, "backup", "storage/backups/tank/b")
    assert replica.worst_lag_s is not None
    assert 12 * HOUR_S < replica.worst_lag_s < 14 * HOUR_S
    assert replica.worst_lag_at is not None
    ends = START + timedelta(days=1, hours=18)
    assert ends <= replica.worst_lag_at <= ends + timedelta(hours=1)
    assert replica.snapshots > 65, "what was not sent in the outage is sent after it"
    (link,) = report.links
    assert list(link.down) == [(30 * HOUR_S, 42 * HOUR_S)]
    assert link.down_s == 12 * HOUR_S
    assert link.failed >= 1
    assert report.needs_a_person == []
    (trouble,) = report.troubles
    assert "the link from backup to app is down" in trouble.text
    assert "the link from backup to app is down" in log.getvalue()


def test_the_time_before_the_first_copy_counts(tmp_path: Path) -> None:
    report = run(
        hosts_of(tmp_path, app=SOURCE, backup=PULL),
        days=3,
        outages=["link app-backup 2026-01-01 for 2d"],
    )
    replica = story(report, "backup", "storage/backups/tank/a")
    assert not replica.is_missing
    assert replica.worst_lag_s is not None
    assert replica.worst_lag_s >= 2 * DAY_S
    assert replica.worst_lag_at is not None
    assert timedelta(days=2) <= replica.worst_lag_at - START <= timedelta(days=2, hours=1)
    assert max(each.lag_s or 0 for each in replica.samples) == replica.worst_lag_s
    assert [each.snapshots for each in replica.samples][:200] == [0] * 200


def test_a_copy_that_never_came_is_told(tmp_path: Path) -> None:
    """By the filters and places of each host on the way, as no run has shown any."""
    on = """
- name: on
  type: source
  serve: {type: stdinserver, client_identities: [far]}
  filesystems: {"storage/backups/tank<": true, "storage/backups/tank/b": false}
  snapshotting: {type: manual}
"""
    hosts = hosts_of(
        tmp_path,
        app=SOURCE,
        backup=PULL + on,
        far=PULL.replace("app.example.com", "backup").replace(
            "placeholder: {encryption: inherit}",
            'placeholder: {encryption: inherit}, target: {"storage/backups<": kept}',
        ),
    )
    report = run(hosts, days=2, outages=["link app-backup 2026-01-01 for 30d"])
    missing = {(each.host, each.dataset): each for each in report.datasets if each.is_missing}
    assert set(missing) == {
        ("backup", "storage/backups/tank/a"),
        ("backup", "storage/backups/tank/b"),
        ("far", "storage/backups/kept/tank/a"),
    }
    for each in missing.values():
        assert each.lag_s == each.worst_lag_s == 2 * DAY_S
        assert (each.snapshots, each.space, each.newest) == (0, 0, None)
    assert report.hosts == ("app", "backup", "far")
    manual = SOURCE.replace("{type: periodic, interval: 1h, prefix: zrepl_}", "{type: manual}")
    report = run(hosts_of(tmp_path, app=manual, backup=PULL))
    assert list(report.replicas) == [], "there was nothing to copy"


def test_the_most_is_that_of_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only of those at which all is looked at: what piled up in an outage is pruned soon after it."""
    pull = PULL.replace(
        'keep_sender: [{type: regex, regex: ".*"}]',
        "keep_sender: [{type: not_replicated}, {type: last_n, count: 4}]",
    ).replace(
        'keep_receiver: [{type: regex, regex: ".*"}]', "keep_receiver: [{type: last_n, count: 9}]"
    )
    reports = []
    for samples in (1, 365):
        monkeypatch.setattr(simulation, "SAMPLES", samples)
        reports.append(
            run(
                hosts_of(tmp_path, app=SOURCE, backup=pull),
                days=2,
                outages=["link app-backup 2026-01-01 04:00 for 18h"],
                workloads=["* writes=1GiB rewrites=100%"],
            )
        )
    few, many = reports
    for place in (("app", "tank/a"), ("backup", "storage/backups/tank/a")):
        once, often = story(few, *place), story(many, *place)
        (sample,) = once.samples
        assert sample.snapshots == once.most_snapshots == often.most_snapshots
        assert often.most_snapshots == max(each.snapshots for each in often.samples)
        assert once.most_snapshots >= 22
        assert sample.space == once.most_space == pytest.approx(often.most_space, rel=0.03)
        assert once.most_space > 1.2 * once.space
        assert (once.snapshots, once.space) == (often.snapshots, often.space)


def test_a_chain_and_a_fan_out(tmp_path: Path) -> None:
    """a, from which b and d pull; c pulls from b what b has pulled."""
    near = (
        PULL
        + """
- name: on
  type: source
  serve: {type: stdinserver, client_identities: [c]}
  filesystems: {"storage/backups/tank<": true, "storage/backups/tank": false}
  snapshotting: {type: manual}
"""
    )
    far = PULL.replace("host: app.example.com", "host: b")
    report = run(
        hosts_of(
            tmp_path,
            app=SOURCE.replace("[backup]", "[b, d]"),
            b=near,
            c=far,
            d=PULL,
        )
    )
    places = {(s.host, s.dataset) for s in report.replicas if s.origin == "app:tank/a"}
    assert places == {
        ("b", "storage/backups/tank/a"),
        ("c", "storage/backups/storage/backups/tank/a"),
        ("d", "storage/backups/tank/a"),
    }
    near_lag, far_lag = (
        story(report, *at).worst_lag_s
        for at in (
            ("b", "storage/backups/tank/a"),
            ("c", "storage/backups/storage/backups/tank/a"),
        )
    )
    assert near_lag is not None
    assert far_lag is not None
    assert far_lag >= near_lag


def test_encrypted_sends_and_local_links(tmp_path: Path) -> None:
    text = """
jobs:
- name: push
  type: push
  connect: {type: local, listener_name: disk, client_identity: me}
  filesystems: {"tank/a": true}
  send: {encrypted: true}
  snapshotting: {type: cron, cron: "0 */2 * * *", prefix: zrepl_}
  pruning: {keep_sender: [{type: regex, regex: "."}], keep_receiver: [{type: regex, regex: "."}]}
- {name: disk, type: sink, root_fs: disk/backups, serve: {type: local, listener_name: disk},
   recv: {placeholder: {encryption: inherit}}}
"""
    for wire in (False, True):
        report = run(hosts_of(tmp_path, host=text), wire=wire)
        replica = story(report, "host", "disk/backups/me/tank/a")
        assert replica.snapshots in {11, 12}
        assert report.troubles == ()


def test_an_encrypted_pool(tmp_path: Path) -> None:
    """Its root is there with the pool itself."""
    source = SOURCE.replace('{"tank/a": true, "tank/b": true}', '{"tank<": true}').replace(
        "  snapshotting", "  send: {encrypted: true}\n  snapshotting"
    )
    pull = PULL.replace("encryption: inherit", "encryption: 'off'")
    report = run(
        hosts_of(tmp_path, app=source, backup=pull), days=0.5, workloads=["tank/x/y writes=1MiB"]
    )
    assert report.troubles == ()
    for name in ("tank", "tank/x/y"):
        assert story(report, "backup", f"storage/backups/{name}").snapshots == 11


def test_a_snap_job_alone(tmp_path: Path) -> None:
    text = SNAP.replace("tank<", "tank/a<")
    report = run(hosts_of(tmp_path, host=text), workloads=["tank/a writes=1GiB holds=10GiB"])
    ours = story(report, "host", "tank/a")
    assert ours.snapshots in {4, 5}
    assert ours.space == pytest.approx((10 + 24) * 2**30, rel=0.4)
    assert (ours.lag_s, ours.worst_lag_s) == (None, None)


def test_what_grows_takes_more_space_and_is_sent(tmp_path: Path) -> None:
    hosts = hosts_of(tmp_path, app=SOURCE, backup=PULL)
    report = run(
        hosts,
        workloads=["tank/a writes=1GiB rewrites=0% holds=1GiB", "tank/b writes=0B holds=1GiB"],
    )
    grows, rests = (story(report, "backup", f"storage/backups/tank/{name}") for name in "ab")
    assert rests.space == rests.bytes_received == 2**30
    assert grows.bytes_received > 20 * 2**30
    assert [sample.space for sample in grows.samples] == sorted(s.space for s in grows.samples)
    assert grows.most_space == grows.space


def test_the_ladder_has_a_rung_for_each_age() -> None:
    now = 10_000_000
    hourly = [now - HOUR_S * each for each in range(1, 25)]
    daily = [now - DAY_S * each for each in range(2, 8)]
    assert ladder_of([*hourly, *daily], now) == (
        Rung(from_s=0, to_s=HOUR_S, count=1, spacing_s=HOUR_S),
        Rung(from_s=HOUR_S, to_s=DAY_S, count=23, spacing_s=HOUR_S),
        Rung(from_s=DAY_S, to_s=7 * DAY_S, count=6, spacing_s=DAY_S),
    )
    assert ladder_of([], now) == ()
    assert ladder_of([now - 10 * 365 * DAY_S], now) == (
        Rung(from_s=5 * 365 * DAY_S, to_s=None, count=1, spacing_s=None),
    )


def test_the_document_is_plain_json(tmp_path: Path) -> None:
    report = run(hosts_of(tmp_path, app=SOURCE, backup=PULL), days=0.2)
    document = json.loads(json.dumps(report.to_json()))
    assert document["start"] == "2026-01-01T00:00:00Z"
    assert document["datasets"][1]["replica"] is True
    assert document["datasets"][1]["over_time"][-1]["at_s"] == 0.2 * DAY_S
    assert document["links"][0]["peer_job"] == "source"


def test_snapshots_at_one_moment(tmp_path: Path) -> None:
    source = SOURCE.replace("interval: 1h,", "interval: 1h, atomic: true,")
    report = run(hosts_of(tmp_path, app=source, backup=PULL), days=0.5)
    assert report.troubles == ()
    for name in "ab":
        replica = story(report, "backup", f"storage/backups/tank/{name}")
        assert replica.snapshots in {11, 12}
        assert replica.bytes_received > 20 * 2**30
