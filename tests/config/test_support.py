from __future__ import annotations

import pytest

from zrepl_trio.config.load import parse_config
from zrepl_trio.config.support import dormant, unsupported

HEAD = """\
jobs:
- name: fetch
  type: pull
  connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}
  root_fs: backup/hosts
  interval: 10m
"""
KEEP = "{type: regex, regex: '.*'}"
LOSE = "{type: last_n, count: 1}"


def pull(sender: str, receiver: str) -> str:
    return f"{HEAD}  pruning: {{keep_sender: [{sender}], keep_receiver: [{receiver}]}}\n"


@pytest.mark.parametrize(
    "rules",
    [
        KEEP,
        "{type: regex, regex: '^'}",
        f"{LOSE}, {KEEP}",
        "{type: grid, grid: 1x1h, regex: a}, {type: regex, regex: '^.*$'}",
    ],
)
def test_rules_that_keep_everything_leave_nothing_asleep(rules: str) -> None:
    assert dormant(parse_config(pull(rules, rules))) == []


@pytest.mark.parametrize(
    ("sender", "receiver"),
    [
        (KEEP, LOSE),
        (LOSE, KEEP),
        (KEEP, "{type: regex, regex: '.*', negate: true}"),
        (KEEP, "{type: regex, regex: '^zrepl_'}"),
        (KEEP, "{type: not_replicated}"),
    ],
)
def test_rules_that_could_destroy_are_asleep(sender: str, receiver: str) -> None:
    (found,) = dormant(parse_config(pull(sender, receiver)))
    assert (found.job, found.what) == ("fetch", ("pruning",))
    assert str(found) == (
        "zrepl.yml:2:3: jobs[0]: job 'fetch': pruning does not run in this version; no snapshot "
        "is destroyed"
    )


def test_nothing_of_a_plain_pull_is_unsupported() -> None:
    assert unsupported(parse_config(pull(KEEP, KEEP))) == []


def test_what_is_not_built_is_named() -> None:
    text = """
jobs:
- name: s
  type: snap
  filesystems: {"<": true}
  snapshotting:
    type: periodic
    interval: 10m
    prefix: zrepl_
    hooks:
    - {type: command, path: /bin/true}
    - {type: postgres-checkpoint, dsn: "host=h", filesystems: {"<": true}}
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""
    loaded = parse_config(text)
    (problem,) = unsupported(loaded)
    assert problem.key == "jobs[0].snapshotting.hooks[1].type"
    assert problem.line > 0
    assert "not built in this version" in problem.message
    assert dormant(loaded) == []


def test_who_takes_snapshots_is_told_that_nobody_thins_them_out() -> None:
    text = """
jobs:
- name: s
  type: snap
  filesystems: {"<": true}
  snapshotting: {type: cron, cron: "0 * * * *", prefix: zrepl_}
  pruning: {keep: [{type: last_n, count: 1}]}
"""
    (found,) = dormant(parse_config(text))
    assert found.what == ("pruning",)
    assert "also none of those that it takes" in str(found)


def test_an_option_without_effect_in_zrepl_is_refused_too() -> None:
    text = pull(KEEP, KEEP).replace("/k}", "/k, transport_open_command: [a]}")
    (problem,) = unsupported(parse_config(text))
    assert problem.key == "jobs[0].connect.transport_open_command"
