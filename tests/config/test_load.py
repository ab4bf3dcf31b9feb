from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zrepl_trio.config import load
from zrepl_trio.config.load import load_config, parse_config
from zrepl_trio.config.model import Config, PullJob, SourceJob
from zrepl_trio.config.transport import SshStdinserverConnect, StdinserverServe
from zrepl_trio.errors import ConfigErrors, Problem

SOURCE = """\
jobs:
- name: offer
  type: source
  serve:
    type: stdinserver
    client_identities: [backup-srv.example.com]
  filesystems: {"tank/data<": true, "tank/data/tmp<": false}
  snapshotting: {type: manual}
"""

PULL = """\
jobs:
- name: fetch
  type: pull
  connect:
    type: ssh+stdinserver
    host: app-srv.example.com
    user: root
    port: 22
    identity_file: /etc/zrepl/ssh/identity
    options:
    - "Compression=on"
  root_fs: backup/hosts
  interval: 10m
  pruning:
    keep_sender: [{type: regex, regex: ".*"}]
    keep_receiver: [{type: regex, regex: ".*"}]
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text)
    return list(caught.value.problems)


def test_a_source_loads_with_zrepls_defaults() -> None:
    config = parse_config(SOURCE).config
    (job,) = config.jobs
    assert isinstance(job, SourceJob)
    assert isinstance(job.serve, StdinserverServe)
    assert job.serve.client_identities == ("backup-srv.example.com",)
    assert job.filesystems.admits("tank/data/a")
    assert not job.filesystems.admits("tank/data/tmp/x")
    assert job.snapshotting.type == "manual"
    assert not job.send.encrypted
    assert config.global_.control.sockpath == "/var/run/zrepl/control"
    assert config.global_.serve.stdinserver.sockdir == "/var/run/zrepl/stdinserver"


def test_a_pull_loads_with_zrepls_defaults() -> None:
    (job,) = parse_config(PULL).config.jobs
    assert isinstance(job, PullJob)
    connect = job.connect
    assert isinstance(connect, SshStdinserverConnect)
    assert (connect.host, connect.user, connect.port) == ("app-srv.example.com", "root", 22)
    assert connect.options == ("Compression=on",)
    assert connect.dial_timeout == 10.0
    assert job.root_fs == "backup/hosts"
    assert job.interval == 600.0
    assert not job.run_at_start
    assert job.recv.unmounted
    assert job.replication.protection.initial == "guarantee_resumability"
    assert (job.replication.concurrency.steps, job.replication.concurrency.size_estimates) == (1, 4)
    assert job.conflict_resolution.initial_replication == "most_recent"


@pytest.mark.parametrize(
    "text", ["", "---\n", "# nothing\n", "{}", "~", "jobs: []", "jobs:", "global:"]
)
def test_an_empty_file_is_a_config_without_jobs(text: str) -> None:
    assert parse_config(text).config == Config()


def test_all_faults_are_reported_at_once_in_file_order_with_place_and_key() -> None:
    text = SOURCE.replace("source", "sauce") + PULL.removeprefix("jobs:\n").replace(
        "port: 22", "port: ssh"
    ).replace("interval: 10m", "interval: 10 minutes").replace("user:", "usr:")
    found = problems(text + "globl: {}\n")
    assert [(p.line, p.column, p.key) for p in found] == [
        (3, 9, "jobs[0].type"),
        (11, 3, "jobs[1].connect.user"),
        (14, 5, "jobs[1].connect.usr"),
        (15, 11, "jobs[1].connect.port"),
        (20, 13, "jobs[1].interval"),
        (24, 1, "globl"),
    ]
    assert str(found[0]) == (
        "zrepl.yml:3:9: jobs[0].type: unknown type 'sauce' "
        "(accepted: push, pull, sink, source, snap)"
    )
    assert str(found[2]).startswith(
        "zrepl.yml:14:5: jobs[1].connect.usr: unknown key; did you mean `user`? (accepted: type,"
    )


def test_loading_imports_no_trio() -> None:
    code = (
        "import sys; from zrepl_trio.config.load import load_config;"
        "sys.exit('trio' in sys.modules or 'anyio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_default_paths_are_searched_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (tmp_path / "first.yml", tmp_path / "second.yml")
    monkeypatch.setattr(load, "DEFAULT_PATHS", paths)
    with pytest.raises(ConfigErrors, match="name one with --config FILE"):
        load_config()
    paths[1].write_text(SOURCE)
    assert load_config().path == paths[1]
    paths[0].write_text("")
    assert load_config().path == paths[0]
    paths[0].unlink()
    paths[0].mkdir()
    with pytest.raises(ConfigErrors, match="not a regular file"):
        load_config()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "cannot read it: No such file"),
        (lambda path: path.mkdir(), "cannot read it: Is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "1:1: not UTF-8"),
        (lambda path: path.write_text("- a\n"), "1:1: the file must hold a mapping"),
        (lambda path: path.write_text("hello"), "1:1: the file must hold a mapping"),
        (lambda path: path.write_text("a: [b"), "not YAML"),
    ],
    ids=["missing", "directory", "binary", "list", "scalar", "broken"],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, make: object, words: str) -> None:
    path = tmp_path / "zrepl.yml"
    assert callable(make)
    make(path)
    with pytest.raises(ConfigErrors) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1800", "1800 has no unit, which would be nanoseconds: write 1800s for seconds"),
        ("1_800", "1_800 has no unit, which would be nanoseconds: write 1800s for seconds"),
        ("20ms", "20ms is too short: it kills a zfs that is only slow (1s is the least)"),
        ("0", "must be more than 0"),
        ("2000000000", "2000000000 has no unit"),
        ("1s", None),
    ],
)
@pytest.mark.parametrize("key", ["command_timeout", "stream_timeout"])
def test_a_timeout_of_zfs_is_not_taken_for_nanoseconds(
    key: str, value: str, said: str | None
) -> None:
    text = f"global:\n  zfs: {{{key}: {value}}}\njobs: []\n"
    if said is None:
        assert getattr(parse_config(text).config.global_.zfs, key) >= 1
        return
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text)
    (problem,) = caught.value.problems
    assert f"global.zfs.{key}: {said}" in str(problem)
