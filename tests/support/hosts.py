"""Pretended hosts for tests, in short paths (a socket's path has 107 bytes)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from zrepl_trio.demo.host import Host

__all__ = ["PULL_JOB", "SOURCE_JOB", "make_host", "marked_processes", "scratch"]

SOURCE_JOB = """\
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [backup]}
  filesystems: {"tank<": true}
  snapshotting: {type: manual}
"""

PULL_JOB = """\
- name: pull
  type: pull
  root_fs: backup/r
  interval: manual
  connect: {type: ssh+stdinserver, host: 127.0.0.1, user: u, port: 22, identity_file: /none}
  pruning: {keep_sender: [{type: regex, regex: ".*"}], keep_receiver: [{type: regex, regex: ".*"}]}
"""


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory that goes with the block."""
    directory = Path(tempfile.mkdtemp(prefix="zt-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_host(directory: Path, name: str, jobs: str, *, path: tuple[Path, ...] = ()) -> Host:
    """A host below `directory`, with `path` first in its PATH."""
    home = directory / name
    home.mkdir()
    joined = ":".join([*map(str, path), os.defpath])
    env = {"PATH": joined, "HOME": str(home), "LANG": "C.UTF-8", "ZT_MARK": str(directory)}
    host = Host(name=name, directory=home, env=env)
    host.write_config(jobs)
    return host


def marked_processes(directory: Path) -> list[str]:
    """What runs with `directory` in its arguments, its working directory or its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            about = [*process.cmdline(), process.cwd(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(directory) in text for text in about):
            found.append(f"{process.pid} {process.status()} {' '.join(process.cmdline())}")
    return found
