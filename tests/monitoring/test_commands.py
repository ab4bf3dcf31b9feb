from __future__ import annotations

import pytest

from tests.replication.notation import path, version
from zrepl_trio.monitoring.commands import Duration, TimedCommand, timed_command
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.model import SendArgs

TANK = path("tank/a b")


@pytest.mark.parametrize(
    ("words", "timed"),
    [
        (argv.list_versions(TANK), TimedCommand(Duration.LIST, TANK)),
        (argv.list_versions_below(TANK), TimedCommand(Duration.LIST, TANK)),
        (argv.snapshot(TANK, "1"), TimedCommand(Duration.SNAPSHOT, TANK)),
        (argv.bookmark(TANK, "1", "2"), TimedCommand(Duration.BOOKMARK, TANK)),
        (argv.destroy_bookmark(TANK, "1"), TimedCommand(Duration.DESTROY, TANK, "bookmark")),
        (
            argv.destroy_snapshots(TANK, ["1", "2"]),
            TimedCommand(Duration.DESTROY, TANK, "snapshot"),
        ),
        (("/sbin/zfs", "destroy", "tank"), TimedCommand(Duration.DESTROY, "tank", "filesystem")),
        (argv.list_datasets(TANK), None),
        (argv.list_datasets(None), None),
        (argv.send(SendArgs(dataset=TANK, to=version("@a,1"))), None),
        (argv.usage("bookmark"), None),
        (("zpool", "destroy", "tank"), None),
        ((), None),
    ],
)
def test_what_is_timed(words: tuple[str, ...], timed: TimedCommand | None) -> None:
    assert timed_command(words) == timed
