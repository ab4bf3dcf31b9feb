from __future__ import annotations

from pathlib import Path

import pytest

from zrepl_trio.config.load import load_config, parse_config
from zrepl_trio.config.timestamps import SnapshotNaming

CONF = Path(__file__).parents[2] / "conf"
EXAMPLES = sorted(path.name for path in CONF.glob("*.yml"))

PULL = """\
jobs:
- name: fetch
  type: pull
  connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}
  root_fs: backup/hosts
  interval: 10m
  pruning:
    keep_sender: [{type: regex, regex: '.*'}]
    keep_receiver: [{type: regex, regex: '.*'}]
"""


def notes(text: str) -> list[str]:
    return [str(note) for note in parse_config(text).notes]


def test_a_sound_config_gets_no_advice() -> None:
    assert notes(PULL) == []


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        (
            "/k}",
            "/k, dial_timeout: 10}",
            "zrepl.yml:4:97: jobs[0].connect.dial_timeout: is 10 nanoseconds, as a bare number is",
        ),
        (
            "/k}",
            "k}",
            "zrepl.yml:4:79: jobs[0].connect.identity_file: 'k' is relative to the daemon's",
        ),
        (
            "keep_receiver: [{type: regex, regex: '.*'}]",
            "keep_receiver: [{type: grid, grid: 2x30m | 1x1h, regex: a}]",
            "zrepl.yml:9:40: jobs[0].pruning.keep_receiver[0].grid: the first bucket keeps its oldest",
        ),
        (
            "keep_receiver: [{",
            "keep_receiver: [{type: not_replicated}, {",
            "zrepl.yml:9:21: jobs[0].pruning.keep_receiver[0]: does nothing here",
        ),
    ],
)
def test_what_is_hardly_meant_is_told_with_its_place(old: str, new: str, note: str) -> None:
    (found,) = notes(PULL.replace(old, new))
    assert found.startswith(note)


def test_a_grid_beside_a_rule_that_keeps_the_newest_is_fine() -> None:
    text = PULL.replace(
        "keep_receiver: [{", "keep_receiver: [{type: grid, grid: 2x30m, regex: a}, {"
    )
    assert notes(text) == []


@pytest.mark.parametrize("root", ["backup/hosts", "backup", "backup/hosts/a"])
def test_overlapping_roots(root: str) -> None:
    second = PULL.removeprefix("jobs:\n").replace("fetch", "again").replace("backup/hosts", root)
    (found,) = notes(PULL + second)
    assert found.startswith(
        "zrepl.yml:13:12: jobs[1].root_fs: overlaps backup/hosts of job 'fetch'"
    )


def test_roots_that_only_look_alike_do_not_overlap() -> None:
    second = (
        PULL.removeprefix("jobs:\n")
        .replace("fetch", "again")
        .replace("backup/hosts", "backup/hosts2")
    )
    assert notes(PULL + second) == []


def test_a_filter_that_lets_nothing_in() -> None:
    text = (
        "jobs: [{name: a, type: source, serve: {type: stdinserver, client_identities: [b]}, "
        "filesystems: {x: no}, snapshotting: {type: manual}}]"
    )
    (found,) = notes(text)
    assert "no entry is true" in found


def test_a_hooks_program_should_not_depend_on_where_the_daemon_was_started() -> None:
    text = """
jobs:
- name: s
  type: snap
  filesystems: {"<": true}
  snapshotting: {type: periodic, interval: 1h, prefix: x, hooks: [{type: command, path: hooks/db}]}
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""
    (note,) = notes(text)
    assert "hooks[0].path: 'hooks/db' is relative to the daemon's" in note
    assert notes(text.replace("hooks/db", "/hooks/db")) == []


@pytest.mark.parametrize(
    ("layout", "zone", "warned"),
    [
        ("2006-01-02_15-04", "Europe/Berlin", True),
        ("2006-01-02_15-04", "America/New_York", True),
        ("Jan _2 3:04:05.000 pm", "Australia/Lord_Howe", True),
        ("2006-01-02_15-04-0700", "Europe/Berlin", False),
        ("2006-01-02_15-04_MST", "Europe/Berlin", False),
        ("iso-8601", "Europe/Berlin", False),
        ("2006-01-02_15-04", "Asia/Tokyo", False),
        ("2006-01-02_15-04", "UTC", False),
    ],
)
def test_names_that_come_twice_in_autumn_are_told(layout: str, zone: str, warned: bool) -> None:
    text = f"""\
jobs:
- name: snap
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting:
    type: periodic
    prefix: zrepl_
    interval: 10m
    timestamp_format: "{layout}"
    timestamp_location: {zone}
  pruning: {{keep: [{{type: regex, regex: ".*"}}]}}
"""
    found = notes(text)
    assert len(found) == warned
    if warned:
        assert found[0].startswith("zrepl.yml:9:")
        assert f"clocks go back in {zone}" in found[0]


@pytest.mark.parametrize(
    ("rhythm", "layout", "apart"),
    [
        ("interval: 1m", "2006-01-02", "1m"),
        ("interval: 1m", "2006", "1m"),
        ("interval: 1m", "snap", "1m"),
        ("interval: 30s", "2006-01-02_15-04", "30s"),
        ("interval: 1h", "2006-01-02_03:04:05", "12h"),
        ("interval: 1h", "15:04:05", "1d"),
        ("interval: 7h", "03:04:05", "84h"),  # what both 7 and 12 hours divide
        ("interval: 18h", "2006-01-02", "18h"),
        ("cron: '*/20 * * * *'", "2006-01-02_15", "20m"),
        ("cron: '0 */2 * * *'", "2006-01-02_03-04", "12h"),
        ("cron: '0 6 * * 1'", "15-04", "1w"),
        ("cron: '0 0 * * *'", "15-04", "1d"),
        ("interval: 1h", "2006-01-02_03:04:05PM", ""),
        ("interval: 1d", "2006-01-02", ""),
        ("interval: 1d", "2006-01-02_03", ""),
        ("interval: 90d", "2006-01", ""),
        ("interval: 15000w", "2006", ""),
        ("interval: 1m", "2006-01-02_15-04", ""),
        ("cron: '0 0 * * *'", "2006-01-02", ""),
        ("cron: '0 0 1 1 *'", "2006", ""),
        ("cron: '* * * * * *'", "dense", ""),
    ],
)
def test_names_that_must_come_again_are_told(rhythm: str, layout: str, apart: str) -> None:
    text = f"""\
jobs:
- name: snap
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting:
    type: {"cron" if "cron" in rhythm else "periodic"}
    prefix: zrepl_
    {rhythm}
    timestamp_format: "{layout}"
  pruning: {{keep: [{{type: regex, regex: ".*"}}]}}
"""
    found = notes(text)
    assert len(found) == bool(apart)
    if apart:
        head = "zrepl.yml:9:23: jobs[0].snapshotting.timestamp_format: names come again: "
        assert found[0].startswith(head)
        assert f" and {apart} later give both 'zrepl_" in found[0]


def test_the_two_times_are_named() -> None:
    naming = SnapshotNaming.checked("zrepl_", "2006-01-02_15-04", "Europe/Berlin")
    twice = naming.repeated()
    assert twice is not None
    first, second = twice
    assert (first.isoformat(), second.isoformat()) == (
        "2025-10-26T02:30:00+02:00",
        "2025-10-26T02:30:00+01:00",
    )
    assert naming.name(first) == naming.name(second) == "zrepl_2025-10-26_02-30"


def test_pruning_that_can_never_have_a_cursor_is_told() -> None:
    rules = "keep_receiver: [{type: last_n, count: 3}]"
    text = PULL.replace("keep_receiver: [{type: regex, regex: '.*'}]", rules)
    assert notes(text) == []
    text += "  replication: {protection: {incremental: guarantee_nothing}}\n"
    (note,) = notes(text)
    assert "jobs[0].pruning: with `protection: {incremental: guarantee_nothing}`" in note
    # to keep everything takes none
    kept = PULL + "  replication: {protection: {incremental: guarantee_nothing}}\n"
    assert notes(kept) == []


BUDGET = "{type: not_replicated, max_count: 2}"


@pytest.mark.parametrize(
    ("rules", "foreign", "told"),
    [
        (f"[{BUDGET}, {{type: regex, regex: '^manual_'}}]", "ask", True),
        ("[{type: not_replicated}]", "ask", True),
        (f"[{BUDGET}]", "keep", True),
        (f"[{BUDGET}]", "destroy", False),
        # named, and so may go
        (f"[{BUDGET}, {{type: regex, regex: '^zrepl_', negate: true}}]", "ask", False),
        (f"[{BUDGET}, {{type: last_n, count: 1}}]", "ask", False),
        (f"[{BUDGET}, {{type: grid, grid: 1x1h(keep=all), regex: '^zrepl_'}}]", "ask", False),
        ("[{type: regex, regex: '.*'}]", "ask", False),
    ],
)
def test_rules_that_name_nothing_that_may_go_are_told(rules: str, foreign: str, told: bool) -> None:
    old = "keep_sender: [{type: regex, regex: '.*'}]"
    text = PULL.replace(old, f"foreign: {foreign}\n    keep_sender: {rules}")
    found = notes(text)
    assert len(found) == told
    if told:
        assert found[0].startswith(
            "zrepl.yml:9:5: jobs[0].pruning.keep_sender: nothing goes unasked"
        )
        assert "no max_count or max_age helps" in found[0]


@pytest.mark.parametrize(
    ("snapshotting", "told"),
    [("{type: manual}", True), ("{type: cron, cron: '0 * * * *', prefix: z_}", False)],
)
def test_a_job_that_takes_snapshots_means_them(snapshotting: str, told: bool) -> None:
    push = f"""\
jobs:
- name: p
  type: push
  connect: {{type: tcp, address: "a:1"}}
  filesystems: {{"tank<": true}}
  snapshotting: {snapshotting}
  pruning:
    keep_sender: [{BUDGET}]
    keep_receiver: [{{type: regex, regex: ".*"}}]
"""
    assert len(notes(push)) == told
    snap = f"""\
jobs:
- name: s
  type: snap
  filesystems: {{"tank<": true}}
  snapshotting: {snapshotting}
  pruning: {{keep: [{{type: regex, regex: "^mine"}}]}}
"""
    assert len(notes(snap)) == told


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_example_names_nothing(name: str) -> None:
    found = [str(note) for note in load_config(CONF / name).notes]
    assert not [note for note in found if "nothing goes unasked" in note]
