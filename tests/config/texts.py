"""Jobs as the lines of a file, and what is wrong with it."""

from __future__ import annotations

import pytest

from zrepl_trio.config.load import parse_config
from zrepl_trio.errors import ConfigErrors

SOURCE = {
    "name": "name: offer",
    "type": "type: source",
    "serve": "serve: {type: stdinserver, client_identities: [a]}",
    "filesystems": 'filesystems: {"tank<": true}',
    "snapshotting": "snapshotting: {type: manual}",
}
PULL = {
    "name": "name: fetch",
    "type": "type: pull",
    "connect": "connect: {type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}",
    "root_fs": "root_fs: backup/hosts",
    "interval": "interval: 10m",
    "pruning": "pruning: {keep_sender: [{type: not_replicated}], keep_receiver: [{type: last_n, count: 1}]}",
}


def job_text(lines: dict[str, str], **changed: str | None) -> str:
    """One job as a file; a changed key's line is replaced, added, or (None) left out."""
    merged = {key: line for key, line in {**lines, **changed}.items() if line is not None}
    return "jobs:\n-\n" + "".join(f"  {line}\n" for line in merged.values())


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_config(text)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]
