"""Configs of zrepl 0.0.x: what they become, what is told, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from zrepl_trio.config.keep import KeepGrid, KeepLastN, KeepRegex
from zrepl_trio.config.load import LoadedConfig, load_config, parse_config
from zrepl_trio.config.model import PullJob, PushJob, SinkJob, SourceJob
from zrepl_trio.config.render import as_yaml, render_config
from zrepl_trio.config.rules import PeriodicSnapshotting
from zrepl_trio.config.transport import LocalConnect, LocalServe, StdinserverServe
from zrepl_trio.errors import ConfigErrors

KEEP_ALL = [{"type": "regex", "regex": ".*"}]

SOURCE = """\
jobs:
- name: pull_backup
  type: source
  serve:
    type: stdinserver
    client_identity: backup-srv.example.com
  filesystems: {"tank/data<": "ok", "tank/data/tmp": "!"}
  snapshot_prefix: zrepl_
  interval: 10m
  prune: {policy: grid, grid: 1x1h(keep=all), keep_bookmarks: 144}
"""

PULL = """\
jobs:
- name: pull_app-srv
  type: pull
  connect:
    type: ssh+stdinserver
    host: app-srv.example.com
    user: root
    port: 22
    identity_file: /etc/zrepl/ssh/identity
    options: # optional
    - "Compression=on"
  interval: 1h
  mapping: {"<": backup/app-srv}
  initial_repl_policy: all
  snapshot_prefix: z.repl_
  prune: {policy: grid, grid: 1x1h | 24x1h}
"""

LOCAL = """\
jobs:
- name: mirror
  type: local
  mapping: {"tank/db<": backup/local/tank/db, "tank/home": backup/local/tank/home, "tank/db/x": "!"}
  snapshot_prefix: zrepl_
  interval: 10m
  initial_repl_policy: most_recent
  prune_lhs: {policy: grid, grid: 1x1h(keep=all), keep_bookmarks: all}
  prune_rhs: {policy: noprune}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def notes(loaded: LoadedConfig) -> dict[str, str]:
    return {note.key: note.message for note in loaded.notes}


def test_an_old_source_becomes_todays() -> None:
    loaded = parse_config(SOURCE)
    (job,) = loaded.config.jobs
    assert isinstance(job, SourceJob)
    assert isinstance(job.serve, StdinserverServe)
    assert job.serve.client_identities == ("backup-srv.example.com",)
    assert job.filesystems.admits("tank/data/a")
    assert not job.filesystems.admits("tank/data/tmp")
    assert isinstance(job.snapshotting, PeriodicSnapshotting)
    assert (job.snapshotting.prefix, job.snapshotting.interval) == ("zrepl_", 600.0)
    assert job.snapshotting.timestamp_format == "dense"
    assert set(notes(loaded)) == {
        "jobs[0].serve.client_identity",
        "jobs[0].filesystems",
        "jobs[0].snapshot_prefix",
        "jobs[0].prune",
    }


def test_an_old_sources_pruning_is_shown_as_the_pullers_lines() -> None:
    loaded = parse_config(SOURCE)
    (note,) = [note for note in loaded.notes if "a source does not prune today" in note.message]
    assert (note.line, note.column) == (10, 3)
    shown = yaml.safe_load(note.today)
    job = yaml.safe_load(PULL)["jobs"][0]
    job = {key: job[key] for key in ("name", "type", "connect", "interval")}
    job |= {"root_fs": "a/b", "pruning": {**shown["pruning"], "keep_receiver": KEEP_ALL}}
    (pull,) = parse_config(as_yaml({"jobs": [job]})).config.jobs
    assert isinstance(pull, PullJob)
    assert [rule.type for rule in pull.pruning.keep_sender] == ["not_replicated", "grid", "regex"]


def test_an_old_source_without_filesystems_offers_nothing() -> None:
    loaded = parse_config(
        SOURCE.replace('  filesystems: {"tank/data<": "ok", "tank/data/tmp": "!"}\n', "")
    )
    (job,) = loaded.config.jobs
    assert isinstance(job, SourceJob)
    assert job.filesystems.rejects_all
    assert "offers nothing" in notes(loaded)["jobs[0]"]


def test_datasets_is_an_older_name_of_filesystems() -> None:
    old = parse_config(SOURCE.replace("filesystems", "datasets"))
    assert old.config == parse_config(SOURCE).config


def test_an_old_pull_becomes_todays() -> None:
    loaded = parse_config(PULL)
    (job,) = loaded.config.jobs
    assert isinstance(job, PullJob)
    assert job.root_fs == "backup/app-srv"
    assert job.interval == 3600.0
    assert job.run_at_start
    assert job.recv.placeholder.encryption == "inherit"
    assert job.conflict_resolution.initial_replication == "all"
    (keep,) = job.pruning.keep_sender
    assert isinstance(keep, KeepRegex)
    assert keep.regex.search("anything")
    assert not keep.negate
    grid, foreign, newest = job.pruning.keep_receiver
    assert isinstance(grid, KeepGrid)
    assert isinstance(foreign, KeepRegex)
    assert isinstance(newest, KeepLastN)
    assert str(grid.grid) == "1x1h | 24x1h"
    assert grid.regex.search("z.repl_1")
    assert not grid.regex.search("zxrepl_1")
    assert foreign.negate
    assert foreign.regex == grid.regex == newest.regex
    assert newest.count == 1
    assert set(notes(loaded)) == {
        "jobs[0]",
        "jobs[0].mapping",
        "jobs[0].initial_repl_policy",
        "jobs[0].prune",
    }


def test_an_old_grid_that_keeps_the_newest_anyway_needs_no_more_rules() -> None:
    (job,) = parse_config(PULL.replace("1x1h |", "1x1h(keep=all) |")).config.jobs
    assert isinstance(job, PullJob)
    assert [rule.type for rule in job.pruning.keep_receiver] == ["grid", "regex"]


def test_todays_pull_does_not_run_at_start() -> None:
    text = PULL[: PULL.index("  mapping")] + (
        "  root_fs: a/b\n  pruning: {keep_sender: [{type: not_replicated}], "
        "keep_receiver: [{type: not_replicated}]}\n"
    )
    (job,) = parse_config(text).config.jobs
    assert isinstance(job, PullJob)
    assert not job.run_at_start


def test_an_old_pull_may_have_todays_recv() -> None:
    (job,) = parse_config(PULL + "  recv: {placeholder: {encryption: 'off'}}\n").config.jobs
    assert isinstance(job, PullJob)
    assert job.recv.placeholder.encryption == "off"


def test_a_job_may_mix_the_generations() -> None:
    mixed = SOURCE[: SOURCE.index("  snapshot_prefix")] + "  snapshotting: {type: manual}\n"
    loaded = parse_config(mixed)
    (job,) = loaded.config.jobs
    assert isinstance(job, SourceJob)
    assert job.snapshotting.type == "manual"
    assert set(notes(loaded)) == {"jobs[0].serve.client_identity", "jobs[0].filesystems"}


def test_an_old_local_job_becomes_a_push_and_a_sink_that_keep_the_places() -> None:
    push, sink = parse_config(LOCAL).config.jobs
    assert isinstance(push, PushJob)
    assert isinstance(sink, SinkJob)
    assert sink.recv.placeholder.encryption == "inherit"
    assert isinstance(push.connect, LocalConnect)
    assert isinstance(sink.serve, LocalServe)
    assert push.connect.listener_name == sink.serve.listener_name
    # tank/db arrives at backup/local/tank/db, as before
    assert f"{sink.root_fs}/{push.connect.client_identity}" == "backup/local"
    assert push.filesystems.admits("tank/db/y")
    assert not push.filesystems.admits("tank/db/x")
    assert not push.filesystems.admits("tank/home/child")
    assert [rule.type for rule in push.pruning.keep_sender] == ["grid", "regex"]
    assert [rule.type for rule in push.pruning.keep_receiver] == ["regex"]


def test_faults_behind_a_local_job_keep_their_index_in_the_file() -> None:
    text = LOCAL + "- {name: later, type: pigeon}\n"
    assert faults(text) == ["jobs[1].type: unknown type 'pigeon'"]


def test_old_logging_outlets() -> None:
    loaded = parse_config("global: {logging: [{outlet: stdout, level: info, format: json}]}")
    (outlet,) = loaded.config.global_.logging
    assert (outlet.type, outlet.level) == ("stdout", "info")
    assert notes(loaded) == {"global.logging[0].outlet": "of 0.0.x; today:"}


def test_debug_settings_are_told_to_be_idle() -> None:
    loaded = parse_config(SOURCE + "  debug: {rpc: {log: true}}\n")
    assert "no effect" in notes(loaded)["jobs[0].debug"]


@pytest.mark.parametrize("text", [SOURCE, PULL, LOCAL], ids=["source", "pull", "local"])
def test_the_printed_form_is_todays_and_means_the_same(text: str) -> None:
    loaded = parse_config(text)
    again = parse_config(render_config(loaded.config))
    assert again.config == loaded.config
    assert not [note for note in again.notes if "0.0.x" in note.message]


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        (
            SOURCE,
            "    client_identity: backup-srv.example.com\n",
            "    client_identity: a\n    client_identities: [b]\n",
            "jobs[0].serve.client_identity: stands beside `client_identities`; keep one of the two",
        ),
        (SOURCE, "backup-srv.example.com", "''", "jobs[0].serve.client_identity: must be a text"),
        (
            SOURCE,
            "backup-srv.example.com",
            "a/b",
            "jobs[0].serve.client_identities[0]: client ident",
        ),
        (SOURCE, "  interval: 10m\n", "", "jobs[0].interval: required, and missing"),
        (
            SOURCE,
            "  interval: 10m\n",
            "  interval: 10\n",
            "jobs[0].snapshotting.interval: '10' lacks",
        ),
        (
            SOURCE,
            "  snapshot_prefix: zrepl_\n",
            "",
            "jobs[0].snapshot_prefix: required, and missing",
        ),
        (SOURCE, "zrepl_\n", "''\n", "jobs[0].snapshot_prefix: must be a text that is not empty"),
        (
            SOURCE,
            "  interval: 10m\n",
            "  interval: 10m\n  snapshotting: {type: manual}\n",
            "jobs[0].snapshotting: stands beside its form of 0.0.x; keep one of the two",
        ),
        (
            SOURCE,
            "  interval: 10m\n",
            "  interval: 10m\n  datasets: {}\n",
            "jobs[0].filesystems: stands beside its form of 0.0.x; keep one of the two",
        ),
        (SOURCE, "policy: grid", "policy: last", "jobs[0].prune: unknown policy 'last'"),
        (SOURCE, "grid: 1x1h(keep=all)", "grid: 1x", "jobs[0].prune: '1x' is not a grid term"),
        (SOURCE, "grid: 1x1h(keep=all), ", "", "jobs[0].prune: the policy grid needs a `grid`"),
        (SOURCE, "144", "many", "jobs[0].prune: keep_bookmarks is 'many'"),
        (
            SOURCE,
            "keep_bookmarks",
            "keep",
            "jobs[0].prune: unknown key `keep` in a policy of 0.0.x",
        ),
        (SOURCE, '"ok"', '"yes"', "jobs[0].filesystems['tank/data<']: 'yes' in quotes is a text"),
        (SOURCE, "  interval", "  jitter: 1\n  interval", "jobs[0].jitter: unknown key"),
        (
            PULL,
            '{"<": backup/app-srv}',
            '{"tank<": backup/app-srv}',
            "jobs[0].mapping: today a pull keeps",
        ),
        (
            PULL,
            '{"<": backup/app-srv}',
            '{"tank<": backup/x/tank}',
            "jobs[0].mapping: today a pull takes",
        ),
        (
            PULL,
            '{"<": backup/app-srv}',
            '{"<": backup/x, "a": "!"}',
            "jobs[0].mapping: today a pull takes",
        ),
        (PULL, '{"<": backup/app-srv}', '{"<": "!"}', "jobs[0].mapping: maps nothing"),
        (PULL, '{"<": backup/app-srv}', "{}", "jobs[0].mapping: is empty"),
        (
            PULL,
            '{"<": backup/app-srv}',
            '{"<": /a}',
            "jobs[0].mapping: dataset path '/a' has an empty",
        ),
        (PULL, '{"<": backup/app-srv}', '{"a<b": c}', "jobs[0].mapping: pattern 'a<b'"),
        (PULL, '{"<": backup/app-srv}', "[a]", "jobs[0].mapping: must be a mapping of patterns"),
        (
            PULL,
            '  mapping: {"<": backup/app-srv}\n',
            "",
            "jobs[0].mapping: missing: 0.0.x pulled nothing",
        ),
        (PULL, "  mapping", "  root_fs: a/b\n  mapping", "jobs[0].root_fs: stands beside its form"),
        (PULL, "policy: all", "policy: some", "jobs[0].initial_repl_policy: 'some' is not known"),
        (
            PULL,
            "  prune: {policy: grid, grid: 1x1h | 24x1h}\n",
            "",
            "jobs[0].prune: required, and missing",
        ),
        (
            PULL,
            "prune: {policy: grid, grid: 1x1h | 24x1h}",
            "prune: 5",
            "jobs[0].prune: must be a mapping",
        ),
        (
            PULL,
            "  snapshot_prefix: z.repl_\n",
            "",
            "jobs[0].prune: the policy grid needs the job's",
        ),
        (LOCAL, "backup/local/tank/db,", "backup/tank/db,", "jobs[0].mapping: today a sink puts"),
        (LOCAL, "backup/local/", "backup/", "jobs[0].mapping: today a sink puts"),
        (
            LOCAL,
            "  prune_rhs: {policy: noprune}\n",
            "",
            "jobs[0].prune_rhs: required in a job of type",
        ),
        (LOCAL, "  mapping: {", "  maps: {", "jobs[0].mapping: required in a job of type local"),
        (LOCAL, "policy: noprune", "policy: none", "jobs[0].prune_rhs: unknown policy 'none'"),
    ],
)
def test_what_has_no_translation_is_refused_with_the_reason(
    text: str, old: str, new: str, expected: str
) -> None:
    assert old in text
    (fault,) = faults(text.replace(old, new))
    assert fault.startswith(expected)


@pytest.mark.parametrize(
    ("generation", "lines"),
    [
        ("source", SOURCE[: SOURCE.index("  filesystems")]),
        ("pull", PULL[: PULL.index("  interval")]),
    ],
)
def test_the_lines_of_the_first_generation_stand_unchanged_in_conf(
    generation: str, lines: str
) -> None:
    path = Path(__file__).parents[2] / f"conf/zrepl-0.0.x-{generation}.yml"
    assert lines in path.read_text()
    assert load_config(path).config.jobs
