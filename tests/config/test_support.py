from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from zrepl_trio.config.clients import REQUIREMENTS
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.support import unsupported, without_effect

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


HOOKS = """
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
    - {type: mysql-lock-tables, dsn: "u:secret@/", filesystems: {"<": true}}
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""


def test_a_client_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = parse_config(HOOKS)
    assert unsupported(loaded) == []
    for module in ("psycopg", "pymysql"):
        monkeypatch.setitem(sys.modules, module, None)
    first, second = unsupported(loaded)
    assert first.key == "jobs[0].snapshotting.hooks[1].type"
    assert first.line > 0
    assert "postgres-checkpoint needs the library psycopg" in first.message
    assert first.message.endswith(f"{sys.executable} -m pip install 'psycopg[binary]>=3.2'")
    assert second.message.endswith("-m pip install 'PyMySQL[rsa]>=1.2'")


def test_the_extras_for_hooks_are_those_that_are_named() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert {name: of for name, (of,) in extras.items() if name in REQUIREMENTS} == REQUIREMENTS


def test_an_option_without_effect_in_zrepl_has_none_here_and_is_told() -> None:
    text = pull(KEEP, KEEP).replace("/k}", "/k, transport_open_command: [a]}")
    loaded = parse_config(text)
    assert unsupported(loaded) == []
    (problem,) = without_effect(loaded)
    assert problem.key == "jobs[0].connect.transport_open_command"
    assert "has no effect" in problem.message


SINKS = """
jobs:
- {name: limited, type: sink, root_fs: backup/a, serve: {type: local, listener_name: here}}
- {name: other, type: sink, root_fs: backup/b, serve: {type: local, listener_name: there}}
- {name: unlimited, type: sink, root_fs: backup/c, serve: {type: local, listener_name: here}}
"""


def test_of_several_jobs_with_one_local_listener_those_that_get_nothing_are_told() -> None:
    loaded = parse_config(SINKS)
    assert unsupported(loaded) == []
    (problem,) = without_effect(loaded)
    assert (problem.line, problem.key) == (5, "jobs[2].serve.listener_name")
    assert "served by job 'limited', which gets all" in problem.message
    assert "job 'unlimited' nothing" in problem.message
