"""What one side's listings tell of how each filesystem goes on."""

from __future__ import annotations

import pytest

from tests.endpoint.test_inventory import LAST, STEP, cursor, tentative
from tests.replication.notation import path, version
from zrepl_trio.endpoint.aside import copy_name
from zrepl_trio.endpoint.inventory import abstractions_on
from zrepl_trio.endpoint.takeover import (
    Finding,
    Outlook,
    judge_replica,
    judge_source,
    of_other_jobs,
)
from zrepl_trio.zfs.model import Dataset, Hold, ResumeToken
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import legacy_hash

FS, REPLICA = path("tank/a"), path("backup/r/tank/a")
V1 = "#zrepl_replication_cursor"
TOKEN = ResumeToken(to_name="tank/a@3", to_guid=3, from_guid=2, bytes_received=7)


def source(text: str, *holds: str, placeholder: bool = False) -> Finding:
    """Job `j`, versions and holds as in `test_inventory.found`."""
    versions = [version(word) for word in text.split("|") if word]
    pairs = [hold.split(" ", 1) for hold in holds]
    items = abstractions_on(FS, versions, [Hold(FS, name, tag) for name, tag in pairs])
    dataset = Dataset(path=FS, guid=99, is_placeholder=placeholder)
    return judge_source("j", dataset, versions, items)


def replica(
    text: str,
    *holds: str,
    token: ResumeToken | str | None = None,
    placeholder: str = "",
    at: DatasetPath = REPLICA,
) -> Finding:
    versions = [version(word) for word in text.split("|") if word]
    pairs = [hold.split(" ", 1) for hold in holds]
    items = abstractions_on(at, versions, [Hold(at, name, tag) for name, tag in pairs])
    dataset = Dataset(
        path=at,
        guid=98,
        is_placeholder=placeholder in {"on", legacy_hash(REPLICA)},
        placeholder_value=placeholder,
        resume_token="1-x" if token is not None else None,
    )
    return judge_replica("j", dataset, FS, versions, items, token)


@pytest.mark.parametrize(
    ("text", "outlook", "why"),
    [
        ("@1,1|" + cursor(1) + "|@2,2", Outlook.CONTINUES, "@1 (guid 0x1); snapshots since: 1"),
        (cursor(1) + "|@2,2", Outlook.CONTINUES, "0x1 (its snapshot is gone; the bookmark serves)"),
        (cursor(1) + "|" + cursor(2), Outlook.CONTINUES, "guid 0x2 (its snapshot"),
        (V1 + ",1|@2,2|@3,3", Outlook.CONTINUES, "guid 0x1 (its snapshot is gone; the bookmark"),
        (V1 + ",1|@1,1|" + cursor(2), Outlook.CONTINUES, "guid 0x2 "),
        ("@1,1", Outlook.FIRST, "unless the receiver's newest"),
        (tentative(1) + "|@1,1", Outlook.FIRST, "unless"),
        (cursor(1, "k") + "|@1,1", Outlook.FIRST, "unless"),
        ("#by_hand,1", Outlook.CANNOT, "bookmarks only"),
        ("", Outlook.CANNOT, "neither snapshot nor bookmark"),
    ],
)
def test_a_filesystem_to_send_goes_on_from_its_cursor(
    text: str, outlook: Outlook, why: str
) -> None:
    found = source(text)
    assert (found.dataset, found.outlook) == (FS, outlook)
    assert why in found.why
    assert (outlook is Outlook.CANNOT) <= (f"take a snapshot of {FS}" in found.next)


def test_what_an_interrupted_step_and_earlier_ones_left_is_told_apart() -> None:
    found = source(
        f"@1,1|{cursor(1)}|{cursor(2)}|{tentative(3)}|@3,3|{V1},1",
        "1 " + STEP + "j",
        "3 " + STEP + "j",
        "3 " + STEP + "k",
        "3 " + LAST + "j",
    )
    assert sorted(found.found) == [
        "cursor at guid 0x2 (its snapshot is gone; the bookmark serves)",
        "stale, dropped by the next step: 2",
        "step hold on @3 (guid 0x3), of an unfinished step",
        "tentative cursor at @3 (guid 0x3), of an unfinished step",
        "v1 cursor at @1 (guid 0x1), of an old zrepl",
    ]
    assert "migrate replication-cursor:v1-v2" in found.next


def test_a_job_that_got_another_name_is_found_out() -> None:
    assert "but of 'k': if the job was renamed" in source(f"@1,1|{cursor(1, 'k')}").next
    assert source(f"@1,1|{cursor(1, 'k')}|{cursor(1)}").next == ""


def test_a_placeholder_is_not_sent() -> None:
    assert source("@1,1", placeholder=True).outlook is Outlook.NOTHING


@pytest.mark.parametrize(
    ("text", "token", "outlook", "why"),
    [
        ("@1,1|@2,2", None, Outlook.CONTINUES, "from @2 (guid 0x2), if the sender has that"),
        ("@1,1|@2,2", TOKEN, Outlook.RESUMES, "@3 from @2, 7 bytes are here"),
        (
            "",
            ResumeToken(to_name="tank/a@3", to_guid=3, from_guid=None),
            Outlook.RESUMES,
            "@3 in full",
        ),
        # what planning gives up, so that it is sent anew
        ("@1,1", TOKEN, Outlook.CONTINUES, "from @1"),
        ("", TOKEN, Outlook.FIRST, "nothing of it was received whole"),
        ("@1,1", "corrupt", Outlook.CONTINUES, "from @1"),
        (
            "@2,2",
            ResumeToken(to_name="tank/b@3", to_guid=3, from_guid=2),
            Outlook.CONTINUES,
            "from @2",
        ),
        ("", None, Outlook.CANNOT, "no snapshot and is no placeholder"),
        ("#b,1", None, Outlook.CANNOT, "no snapshot and is no placeholder"),
    ],
)
def test_a_replica_goes_on_from_its_newest_snapshot_or_its_token(
    text: str, token: ResumeToken | str | None, outlook: Outlook, why: str
) -> None:
    found = replica(text, token=token)
    assert found.outlook is outlook
    assert why in found.why
    dropped = any("to be dropped" in each for each in found.found)
    assert dropped == (token is not None and outlook is not Outlook.RESUMES)
    assert (outlook is Outlook.CANNOT) == ("zrepl:placeholder=on backup/r/tank/a" in found.next)


def test_snapshots_of_its_own_on_a_replica_are_pointed_at() -> None:
    held = replica("@1,1|@2,2|@3,3", "1 " + LAST + "j", "2 " + LAST + "j", "3 " + LAST + "k")
    assert held.found == (
        "last-received hold on @2",
        "stale, released by the next receive: 1",
    )
    assert "1 snapshot(s) came after the last received @2" in held.next
    assert "zfs rollback -r backup/r/tank/a@2" in held.next
    assert replica("@1,1|@2,2", "2 " + LAST + "j").next == ""


def test_a_copy_that_was_set_aside_is_left_as_it_is() -> None:
    copy = copy_name(REPLICA, "20261126T030000Z")
    found = replica("@1,1|@own,2", at=copy)
    assert (found.dataset, found.outlook) == (copy, Outlook.NOTHING)
    assert "a copy that was set aside" in found.why
    assert (found.found, found.next) == ((), "")
    # even one that a kill left held, after which snapshots of its own came
    held = replica("@1,1|@own,2", "1 " + LAST + "j", token=TOKEN, at=copy)
    assert (held.outlook, held.next) == (Outlook.NOTHING, "")
    assert "rollback" not in str(held)
    assert f"zfs-abstraction release-stale --fs {copy}`" in held.found[0]


def test_what_a_kill_left_in_a_copy_comes_back() -> None:
    copy = copy_name(REPLICA, "20261126T030000Z")
    found = replica("@1,1", at=copy.child(path("b")))
    assert found.outlook is Outlook.NOTHING
    assert f"in {copy}, a copy that was set aside" in found.why
    assert "the next run brings it back" in found.why


@pytest.mark.parametrize(
    ("value", "outlook", "next_"),
    [
        ("on", Outlook.NOTHING, ""),
        (legacy_hash(REPLICA), Outlook.NOTHING, "migrate 0.0.X:0.1:placeholder"),
        ("off", Outlook.CONTINUES, ""),
        (legacy_hash("backup/r/other"), Outlook.CONTINUES, ""),
    ],
)
def test_placeholders_of_both_generations(value: str, outlook: Outlook, next_: str) -> None:
    found = replica("@1,1", placeholder=value)
    assert found.outlook is outlook
    assert next_ in found.next
    assert bool(found.next) == bool(next_)
    foreign = any("is not its own" in each for each in found.found)
    assert foreign == (value == legacy_hash("backup/r/other"))


def test_items_of_other_jobs_are_counted_by_job() -> None:
    versions = [version(word) for word in (cursor(1), cursor(1, "k"), "@2,2", V1 + ",1")]
    holds = [Hold(FS, "2", tag) for tag in (STEP + "k", LAST + "m", "by_hand")]
    assert of_other_jobs(abstractions_on(FS, versions, holds), "j") == {"k": 2, "m": 1}
