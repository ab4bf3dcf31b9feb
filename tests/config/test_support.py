from __future__ import annotations

from zrepl_trio.config.load import parse_config
from zrepl_trio.config.support import unsupported

HEAD = """\
jobs:
- name: fetch
  type: pull
  connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}
  root_fs: backup/hosts
  interval: 10m
"""
KEEP = "{type: regex, regex: '.*'}"


def pull(sender: str, receiver: str) -> str:
    return f"{HEAD}  pruning: {{keep_sender: [{sender}], keep_receiver: [{receiver}]}}\n"


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


def test_an_option_without_effect_in_zrepl_is_refused_too() -> None:
    text = pull(KEEP, KEEP).replace("/k}", "/k, transport_open_command: [a]}")
    (problem,) = unsupported(parse_config(text))
    assert problem.key == "jobs[0].connect.transport_open_command"
