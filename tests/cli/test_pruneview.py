"""A pruning plan as a person, and a program, reads it."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.pruning.policies import ALL, LAST_1, policy
from tests.replication.notation import EPOCH, path, version, versions
from zrepl_trio.cli.pruneview import prune_json, prune_lines
from zrepl_trio.pruning.plan import Base, FilesystemPrune, PruneSide, judge
from zrepl_trio.pruning.planner import SidePlan

NOW = datetime.fromtimestamp(EPOCH + 10 * 86400 + 30, UTC)
GRID: dict[str, object] = {"type": "grid", "grid": "1x1h", "regex": "^zrepl_"}
SNAPSHOTS = [
    version("@mine,1"),
    version("@zrepl_1,2"),
    version("@zrepl_2,3", userrefs=1),
    version("@zrepl_3,4"),
    version("@zrepl_4,5"),
]
POLICY = policy(
    GRID, {"type": "last_n", "count": 1}, prefix="zrepl_", foreign="ask", side=PruneSide.RECEIVER
)
DATA = FilesystemPrune(path=path("tank/data"), judgements=judge(SNAPSHOTS, POLICY, Base.at(4, {4})))
SIDE = SidePlan(policy=POLICY, filesystems=(DATA,), sizes={path("tank/data"): 2 << 20})


def shown(*sides: SidePlan, error: str = "") -> list[str]:
    return [line.plain.rstrip() for line in prune_lines("job", "push", sides, NOW, error=error)]


def test_each_snapshot_with_its_fate_and_the_rule() -> None:
    judgements = judge(SNAPSHOTS[:1] + SNAPSHOTS[2:], POLICY, Base.at(4, {4}))
    going = judge(versions("@zrepl_a,1 @zrepl_b,2 @zrepl_c,9000"), POLICY, Base.at(9000))
    side = SidePlan(
        policy=POLICY,
        filesystems=(
            FilesystemPrune(path=path("tank/a"), judgements=judgements),
            FilesystemPrune(path=path("tank/b"), judgements=going),
            FilesystemPrune(path=path("tank/c"), skipped="filesystem is placeholder"),
            FilesystemPrune(path=path("tank/d"), error="tank/d: no cursor"),
        ),
        sizes={path("tank/b"): 2 << 20},
    )
    assert shown(side) == [
        "job  push, pruning",
        "  receiver: 2 snapshots would go, frees 2.0 MiB",
        "    tank/a  0 of 4 would go",
        "      @mine        10d 0h  stays, as the job did not take it and no rule names it; no rule keeps it",
        "      @zrepl_2     10d 0h  kept by grid 1x1h ^zrepl_",
        "      @zrepl_3     10d 0h  stays, as the next replication starts from it; no rule keeps it",
        "      @zrepl_4     10d 0h  kept by last_n 1",
        "    tank/b  2 of 3 would go, frees 2.0 MiB",
        "      @zrepl_a     10d 0h  goes, no rule keeps it",
        "      @zrepl_b     10d 0h  goes, no rule keeps it",
        "      @zrepl_c     9d 21h  kept by grid 1x1h ^zrepl_, last_n 1",
        "    tank/c  skipped: filesystem is placeholder",
        "    tank/d: no cursor",
    ]


def test_what_stays_for_good_is_told_apart_from_what_waits() -> None:
    how = policy(GRID, foreign="keep")
    judgements = judge(versions("@mine,1 @zrepl_1,2"), how, None)
    side = SidePlan(
        policy=how, filesystems=(FilesystemPrune(path=path("tank/a"), judgements=judgements),)
    )
    line = next(line for line in shown(side) if "@mine" in line)
    assert "stays by `foreign: keep`, as the job did not take it" in line


def test_sides_that_keep_all_or_cannot_be_told() -> None:
    assert shown(
        SidePlan(policy=policy(ALL)), SidePlan(policy=POLICY, error="the link is down")
    ) == [
        "job  push, pruning",
        "  sender: the rules keep everything (regex .*)",
        "  receiver: the link is down",
    ]
    assert shown(error="no daemon") == ["job  push, pruning", "  no daemon"]
    unknown = SidePlan(
        policy=policy(LAST_1),
        filesystems=(
            FilesystemPrune(
                path=path("tank/b"),
                judgements=judge(versions("@a,1 @b,2"), policy(LAST_1), None),
            ),
        ),
        sizes={path("tank/b"): None},
    )
    assert "  sender: 1 snapshot would go, frees size unknown" not in shown(unknown)
    assert "  sender: 1 snapshot would go, size unknown" in shown(unknown)


def test_the_same_for_programs() -> None:
    told = prune_json(SIDE)
    assert isinstance(told, dict)
    assert told["rules"] == ["grid 1x1h ^zrepl_", "last_n 1"]
    (filesystem,) = told["filesystems"]
    assert (filesystem["filesystem"], filesystem["frees"]) == ("tank/data", 2 << 20)
    fates = {each["name"]: each["fate"] for each in filesystem["snapshots"]}
    assert fates == {
        "mine": "foreign",
        "zrepl_1": "kept",
        "zrepl_2": "held",
        "zrepl_3": "base",
        "zrepl_4": "kept",
    }
    assert filesystem["snapshots"][4]["kept_by"] == [1]
