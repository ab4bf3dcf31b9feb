from __future__ import annotations

import pytest

from zrepl_trio.config.checks import MAX_SOCKET_PATH
from zrepl_trio.config.load import parse_config
from zrepl_trio.errors import ConfigErrors

SOURCE = """\
- name: {name}
  type: source
  serve: {{type: stdinserver, client_identities: [{identities}]}}
  filesystems: {{"tank<": true}}
  snapshotting: {{type: manual}}
"""


def fault(text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text)
    return str(caught.value)


def test_one_identity_leads_to_one_job() -> None:
    first = SOURCE.format(name="one", identities="a, b")
    second = SOURCE.format(name="two", identities="c, b")
    text = fault(f"jobs:\n{first}{second}")
    assert text == (
        "zrepl.yml:9:53: jobs[1].serve.client_identities[1]: 'b' is served by job 'one' already"
    )


def test_an_identity_twice_in_a_job() -> None:
    assert "'a' stands twice" in fault("jobs:\n" + SOURCE.format(name="one", identities="a, a"))


def test_a_socket_path_must_fit() -> None:
    sockdir = "/var/run/zrepl/stdinserver"
    longest = "i" * (MAX_SOCKET_PATH - len(sockdir) - 1)
    parse_config("jobs:\n" + SOURCE.format(name="one", identities=longest))
    text = fault("jobs:\n" + SOURCE.format(name="one", identities=longest + "i"))
    assert "would have 108 bytes, and the limit is 107" in text


LOCAL = """\
- name: {name}
  type: sink
  serve: {{type: local, listener_name: here}}
  root_fs: backup/{name}
"""


def test_a_local_connect_names_a_listener_of_this_config() -> None:
    push = """\
- name: p
  type: push
  connect: {type: local, listener_name: there, client_identity: me}
  filesystems: {"tank<": true}
  snapshotting: {type: manual}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
"""
    text = fault("jobs:\n" + LOCAL.format(name="one") + push)
    assert "jobs[1].connect.listener_name: no job of this config serves" in text


TARGETS = """\
jobs:
- name: sink
  type: sink
  serve: {type: local, listener_name: here}
  root_fs: backup
  recv:
    target:
      "tank/data<": data
      TARGET
"""


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            '"tank/vm<": data',
            "9:19: jobs[0].recv.target['tank/vm<']: data is the target of 'tank/data<' too",
        ),
        (
            '"tank/vm<": data/vm',
            "9:19: jobs[0].recv.target['tank/vm<']: data/vm lies inside data, the target of tank/data",
        ),
        (
            '"tank/vm": ../vm',
            "9:18: jobs[0].recv.target['tank/vm']: dataset path '../vm': component must not be '..'",
        ),
    ],
)
def test_targets_that_get_in_each_others_way(entry: str, text: str) -> None:
    assert fault(TARGETS.replace("TARGET", entry)).startswith(f"zrepl.yml:{text}")


def test_a_target_leaves_room_for_names() -> None:
    parse_config(TARGETS.replace("TARGET", f'"tank/vm<": {"v" * 244}'))
    text = fault(TARGETS.replace("TARGET", f'"tank/vm<": {"v" * 245}'))
    assert text.startswith("zrepl.yml:9:19: jobs[0].recv.target['tank/vm<']: backup/vvv")
    assert text.endswith("leaves no room for names below it")


def test_the_filesystems_that_a_filter_names_leave_room_for_the_prefix() -> None:
    text = """\
jobs:
- name: snap
  type: snap
  filesystems: {"tank<": true, "tank/a/very/long/name/that/is/out": false}
  snapshotting:
    type: periodic
    interval: 10m
    prefix: PREFIX
  pruning: {keep: [{type: regex, regex: ".*"}]}
"""
    longest = "z" * (255 - len("tank@") - len("20240514_211623_000"))
    parse_config(text.replace("PREFIX", longest))
    found = fault(text.replace("PREFIX", f"{longest}z"))
    assert found == (
        "zrepl.yml:8:13: jobs[0].snapshotting.prefix: snapshots of tank would have names of 256 bytes, "
        "and zfs takes 255"
    )
