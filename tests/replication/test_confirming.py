"""What was cut off at an odd moment is made good by the next run, also where it has nothing to send."""

from __future__ import annotations

import pytest

from tests.replication.notation import path, versions
from tests.replication.pair import MIB, ROOT, Pair
from tests.replication.test_renames import side
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SendRequest
from zrepl_trio.errors import TransportError, ZfsError
from zrepl_trio.replication.confirming import unconfirmed
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.renames import left_behind
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.names import DatasetPath

CURSOR = "#zrepl_CURSOR_G_{:016x}_J_{},{}"
TENTATIVE = "#zrepl_CURSORTENTATIVE_G_{:016x}_J_src,{}"
A = path("tank/a")
NOTHING = GuaranteeKind.NOTHING


@pytest.mark.parametrize(
    ("sender", "receiver", "protection", "confirmed"),
    [
        ("@1,1 @2,2", "@1,1 @2,2", Protection(), "2"),
        ("@1,1", "@1,1", Protection(), "1"),
        (f"@1,1 {CURSOR.format(2, 'src', 2)} @2,2", "@1,1 @2,2", Protection(), None),
        (f"@1,1 {CURSOR.format(2, 'another', 2)} @2,2", "@1,1 @2,2", Protection(), None),
        (f"{CURSOR.format(1, 'src', 1)} @1,1 @2,2", "@1,1 @2,2", Protection(), "2"),
        (f"@1,1 {TENTATIVE.format(2, 2)} @2,2", "@1,1 @2,2", Protection(), "2"),
        # nothing to tell, and nothing promised
        ("@1,1 @2,2", "@1,1", Protection(), None),
        ("#a,1", "@a,1", Protection(), None),
        ("", "@1,1", Protection(), None),
        # a base that is only a bookmark any more: nothing came that was not told of
        (f"@1,1 @2,2 {CURSOR.format(3, 'src', 3)}", "@1,1 @2,2 @3,3", Protection(), None),
        (f"@1,1 @2,2 {CURSOR.format(3, 'src', 3)}", "@1,1 @2,2", Protection(), "2"),
        ("@1,1 @2,2", "@2,2", Protection(incremental=NOTHING), None),
        ("@1,1", "@1,1", Protection(initial=NOTHING), None),
        ("@1,1 @2,2", "@2,2", Protection(initial=NOTHING), "2"),
    ],
)
def test_the_sender_knows_by_its_cursor(
    sender: str, receiver: str, protection: Protection, confirmed: str | None
) -> None:
    request = unconfirmed(A, versions(sender), versions(receiver), protection)
    assert (request.to.name if request is not None else None) == confirmed


@pytest.mark.parametrize(
    ("sender", "receiver", "found"),
    [
        ("t/a=1 t/a/b=2", "t/a.diverged-T t/a=1 t/a.diverged-T/b=2", {"t/a/b": "t/a.diverged-T/b"}),
        ("t/a=1 t/a/b=2", "t/a.diverged-T t/a.diverged-T/b=2", {"t/a/b": "t/a.diverged-T/b"}),
        ("t/a t/a/b=2", "t/a.diverged-T t/a t/a/b=2 t/a.diverged-T/b=2", {}),
        ("t/a", "t/a.diverged-T t/a t/a.diverged-T/b=2", {}),
        ("t/a t/a/b=2", "t/a t/a/b.diverged-T t/a.diverged-T/b.diverged-T=2", {}),
        # in a placeholder that stepped aside the name is enough, as nobody else puts anything there
        (
            "t/a t/a/b",
            "t/a.diverged-placeholder t/a.diverged-placeholder/b",
            {"t/a/b": "t/a.diverged-placeholder/b"},
        ),
        ("t/a t/a/b=3", "t/a.diverged-placeholder t/a.diverged-placeholder/b=2", {}),
        # of another dataset, or of nobody knows which; the sender's own name
        ("t/a t/a/b=3", "t/a.diverged-T t/a t/a.diverged-T/b=2", {}),
        ("t/a t/a/b", "t/a.diverged-T t/a t/a.diverged-T/b", {}),
        ("t/x t/x/b=2 t/x.diverged-T/b=2", "t/x t/x.diverged-T t/x.diverged-T/b=2", {}),
    ],
)
def test_a_replica_in_a_copy_is_known_by_name_and_guid(
    sender: str, receiver: str, found: dict[str, str]
) -> None:
    assert left_behind(side(sender), side(receiver)) == found


async def replicated() -> Pair:
    pair = Pair()
    for name in ("tank/a", "tank/a/b"):
        pair.fill(name, MIB)
        await pair.snapshot(name, "1")
    assert (await pair.run()).outcome is Outcome.DONE
    for name in ("tank/a", "tank/a/b"):
        await pair.snapshot(name, "2")
    return pair


async def marks(pair: Pair) -> set[str]:
    found = await pair.source.versions(A)
    holds = await pair.source.holds(A, [v.name for v in found if v.is_snapshot])
    return {v.name for v in found if not v.is_snapshot} | {f"@{h.snapshot}" for h in holds}


@pytest.mark.parametrize("kind", [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL])
async def test_a_run_that_died_before_it_could_confirm_is_made_good_by_the_next(
    kind: GuaranteeKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await replicated()
    options = ReplicationOptions(protection=Protection(initial=kind, incremental=kind), attempts=1)

    async def dead(_request: SendRequest) -> None:
        raise TransportError("killed")

    monkeypatch.setattr(pair.sender, "send_completed", dead)
    assert (await pair.run(options=options)).outcome is Outcome.FILESYSTEMS_FAILED
    monkeypatch.undo()
    two = next(v for v in await pair.source.versions(A) if v.name == "2")
    cursor = f"zrepl_CURSOR_G_{two.guid:016x}_J_src"
    assert cursor not in await marks(pair)
    assert len(await marks(pair)) > 1
    report = await pair.run(options=options)
    assert report.outcome is Outcome.DONE, report.error
    assert await marks(pair) == {cursor}
    before = len(pair.cable.calls)
    assert (await pair.run(options=options)).outcome is Outcome.DONE
    assert not [call for call in pair.cable.calls[before:] if call.startswith("send")]


@pytest.mark.parametrize("left", [1, 2], ids=["before the placeholder", "before the children"])
async def test_a_copy_in_the_making_leaves_no_replica_in_it(
    left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = await replicated()
    replica = path(f"{ROOT}/tank/a")
    await pair.target.snapshot(replica, "own")
    rename = pair.target.rename
    done = 0

    async def dies(old: DatasetPath, new: DatasetPath) -> None:
        nonlocal done
        done += 1
        if done == left:
            raise ZfsError("killed")
        await rename(old, new)

    async def unmade(*_args: object) -> None:
        raise ZfsError("killed")

    if left == 1:
        monkeypatch.setattr(pair.target, "create_filesystem", unmade)
    else:
        monkeypatch.setattr(pair.target, "rename", dies)
    options = ReplicationOptions(divergence=DivergencePolicy.KEEP_COPY)
    report = await pair.run(options=options)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    monkeypatch.undo()
    report = await pair.run(options=options)
    assert report.outcome is Outcome.DONE, report.error
    listed = [d.path.removeprefix(f"{ROOT}/") for d in await pair.target.datasets([ROOT])]
    assert [name for name in listed if "/b" in name] == ["tank/a/b"]
    assert [v.name for v in await pair.target.versions(path(f"{replica}/b"))] == ["1", "2"]
    assert [v.name for v in await pair.target.versions(replica)] == ["2"]
