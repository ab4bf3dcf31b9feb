"""The commands that there are, and a config to give them."""

from __future__ import annotations

__all__ = ["COMMANDS", "PLACES", "PULL"]

COMMANDS = [
    "run",
    "daemon",
    "takeover",
    "status",
    "check",
    "signal wakeup",
    "signal reset",
    "stdinserver",
    "configcheck",
    "version",
    "demo",
    "sandbox",
    "zfs-abstraction list",
    "zfs-abstraction create step",
    "zfs-abstraction release-stale",
    "zfs-abstraction release-all",
    "migrate 0.0.X:0.1:placeholder",
    "migrate replication-cursor:v1-v2",
    "test filesystems",
    "test placeholder",
    "test decoderesumetoken",
    "gencompletion bash",
    "gencompletion zsh",
    "pprof listen",
    "pprof activity-trace",
]

PLACES = """
global:
  control: {{sockpath: {runtime}/control}}
  serve: {{stdinserver: {{sockdir: {runtime}/stdinserver}}}}
"""
"""In every config given to `run`: should it not be refused, no daemon is to start in the host's own."""

PULL = (
    """
jobs:
- name: pull
  type: pull
  root_fs: backup/r
  interval: manual
  connect: {{type: ssh+stdinserver, host: h, user: u, port: 22, identity_file: /k}}
  pruning: {{keep_sender: [{{type: last_n, count: 1}}], keep_receiver: [{{type: last_n, count: 1}}]}}
"""
    + PLACES
)
