"""This host's ZFS as a config wants it."""

from __future__ import annotations

from zrepl_trio.config.model import Config
from zrepl_trio.process import Processes
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.limits import ZfsLimits

__all__ = ["host_zfs"]


def host_zfs(config: Config, processes: Processes) -> CliZfs:
    """The `zfs` in PATH, with the limits of `global.zfs`; its children belong to `processes`."""
    wanted = config.global_.zfs
    limits = ZfsLimits(command_s=wanted.command_timeout, stream_s=wanted.stream_timeout)
    return CliZfs(processes, limits=limits)
