"""Which holds and bookmarks are zrepl's, whose, and which are stale."""

from __future__ import annotations

import json

import pytest

from tests.replication.notation import path, version
from zrepl_trio.endpoint.abstractions import cursor_name, tentative_name
from zrepl_trio.endpoint.aside import copy_name
from zrepl_trio.endpoint.inventory import (
    ALL_TYPES,
    Abstraction,
    AbstractionType,
    Selection,
    abstractions_on,
    check_tells_staleness,
    parse_filesystems,
    parse_job,
    parse_types,
    stale,
)
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import Hold
from zrepl_trio.zfs.names import DatasetPath, InvalidName

FS = path("tank/a")
STEP, LAST = "zrepl_STEP_J_", "zrepl_last_received_J_"


def cursor(guid: int, job: str = "j") -> str:
    return f"#{cursor_name(FS, guid, job)},{guid}"


def tentative(guid: int, job: str = "j") -> str:
    return f"#{tentative_name(FS, guid, job)},{guid}"


def found(text: str, *holds: str, dataset: DatasetPath = FS) -> list[Abstraction]:
    """Of versions in the tests' notation (but split at `|`), and holds as `SNAPSHOT TAG`."""
    versions = [version(word) for word in text.split("|")]
    pairs = [hold.split(" ", 1) for hold in holds]
    return abstractions_on(dataset, versions, [Hold(dataset, name, tag) for name, tag in pairs])


@pytest.mark.parametrize(
    ("text", "holds", "expected"),
    [
        ("@1,1", ["1 " + STEP + "j k"], ['step-hold "zrepl_STEP_J_j k" on tank/a@1']),
        ("@1,1", ["1 " + LAST + "j"], ['last-received-hold "zrepl_last_received_J_j" on tank/a@1']),
        ("@1,1", ["1 backup", "1 zrepl_STEP_J_", "1 my_zrepl_STEP_J_j"], []),
        (
            "#zrepl_replication_cursor,1",
            [],
            ["replication-cursor-bookmark-v1 tank/a#zrepl_replication_cursor"],
        ),
        (
            cursor(171),
            [],
            ["replication-cursor-bookmark-v2 tank/a#zrepl_CURSOR_G_00000000000000ab_J_j"],
        ),
        (
            tentative(1),
            [],
            [f"tentative-replication-cursor-bookmark-v2 tank/a{tentative(1).split(',')[0]}"],
        ),
        # made by somebody else of another snapshot: the name tells a guid that is not its own
        (cursor(1).replace(",1", ",2"), [], []),
        (tentative(1).replace(",1", ",2"), [], []),
        # a snapshot of a cursor's name is no cursor, a bookmark of a snapshot's is not held
        (cursor(1).replace("#", "@"), [], []),
        ("#1,1|@1,1", ["1 " + STEP + "j"], ['step-hold "zrepl_STEP_J_j" on tank/a@1']),
    ],
)
def test_zrepls_own_are_found_and_no_others(
    text: str, holds: list[str], expected: list[str]
) -> None:
    assert [str(each) for each in found(text, *holds)] == expected


@pytest.mark.parametrize(
    ("text", "holds", "expected"),
    [
        # a cursor: step holds up to it are done with, the one beyond is an unfinished step's
        (
            f"@1,1|@2,2|{cursor(2)}|@3,3",
            ["1 " + STEP + "j", "2 " + STEP + "j", "3 " + STEP + "j"],
            ["tank/a@1", "tank/a@2"],
        ),
        # none yet: the newest one is the first replication's, perhaps to be resumed
        ("@1,1|@2,2", ["1 " + STEP + "j", "2 " + STEP + "j"], ["tank/a@1"]),
        ("@1,1", ["1 " + STEP + "j"], []),
        # another job's cursor or hold says nothing about this one's
        (f"@1,1|@2,2|{cursor(2, 'k')}", ["1 " + STEP + "j"], []),
        ("@1,1|@2,2", ["1 " + STEP + "j", "2 " + STEP + "k"], []),
        # a tentative cursor is no cursor, and never stale itself
        (f"@1,1|{tentative(1)}|@2,2|{tentative(2)}", ["1 " + STEP + "j"], []),
        # cursors and last-received holds move along
        (f"{cursor(1)}|{cursor(2)}|{cursor(1, 'k')}", [], [cursor(1)]),
        ("@1,1|@2,2|@3,3", [f"{n} {LAST}j" for n in (1, 2, 3)], ["tank/a@1", "tank/a@2"]),
        ("@1,1|@2,2", ["1 " + LAST + "j", "2 " + LAST + "k"], []),
        # by createtxg, not by name or order
        ("@9,1|@1,2", ["1 " + LAST + "j", "9 " + LAST + "j"], ["tank/a@9"]),
        # the first form of cursor is for `migrate`
        (f"#zrepl_replication_cursor,1|{cursor(2)}", [], []),
    ],
)
def test_what_is_stale(text: str, holds: list[str], expected: list[str]) -> None:
    wanted = [f"tank/a{each.split(',')[0]}" if each[0] == "#" else each for each in expected]
    assert [each.version.full(each.dataset) for each in stale(found(text, *holds))] == wanted


@pytest.mark.parametrize("below", ["", "/b"])
def test_nothing_is_received_into_a_copy_that_was_set_aside(below: str) -> None:
    copy = path(f"{copy_name(FS, '20261126T030000Z')}{below}")
    items = found("@1,1|@2,2", "2 " + LAST + "j", "2 " + STEP + "j", dataset=copy)
    assert [each.tag for each in stale(items)] == [LAST + "j"]


def test_other_filesystems_do_not_count() -> None:
    (hold,) = found("@1,1", "1 " + LAST + "j")
    other = Abstraction(
        type=hold.type, dataset=path("tank/b"), version=version("@2,2"), job="j", tag=hold.tag
    )
    assert stale([hold, other]) == []


def test_json_is_zrepls() -> None:
    (hold,) = found("@1,7", "1 " + STEP + "j")
    assert json.loads(json.dumps(hold.to_json())) == {
        "Type": "step-hold",
        "FS": "tank/a",
        "Name": "1",
        "FullPath": "tank/a@1",
        "JobID": "j",
        "CreateTXG": 7,
        "FilesystemVersion": {
            "Type": "snapshot",
            "Name": "1",
            "Guid": 7,
            "CreateTXG": 7,
            "Creation": "2023-11-14T22:13:27Z",
            "UserRefs": {"Value": 0, "Valid": True},
        },
        "String": 'step-hold "zrepl_STEP_J_j" on tank/a@1',
    }
    (old,) = found("#zrepl_replication_cursor,1")
    json_of = old.to_json()
    assert json_of["JobID"] is None
    assert str(json_of["FilesystemVersion"]).count("'bookmark'") == 1
    assert "{'Value': 0, 'Valid': False}" in str(json_of["FilesystemVersion"])


@pytest.mark.parametrize(
    ("job", "types", "admitted"),
    [
        (None, ALL_TYPES, ["1", "step j", "step k"]),
        ("j", ALL_TYPES, ["1", "step j"]),
        ("k", {AbstractionType.STEP}, ["step k"]),
        ("nosuch", {AbstractionType.STEP}, []),
    ],
)
def test_a_selection_admits_by_job_and_type(
    job: str | None, types: frozenset[AbstractionType], admitted: list[str]
) -> None:
    every = {
        "1": found("#zrepl_replication_cursor,1")[0],
        "step j": found("@1,1", "1 " + STEP + "j")[0],
        "step k": found("@1,1", "1 " + STEP + "k")[0],
    }
    selection = Selection(job=job, types=frozenset(types))
    assert [name for name, each in every.items() if selection.admits(each)] == admitted


def test_options_are_read_as_zrepl_reads_them() -> None:
    assert parse_filesystems("tank/a") == "tank/a"
    assert parse_filesystems("tank<:ok,tank/a:!") == FilesystemFilter.of(
        {"tank<": True, "tank/a": False}
    )
    assert parse_filesystems("<:OK") == FilesystemFilter.of({"<": True})
    assert parse_filesystems("tank/a:b:ok") == FilesystemFilter.of({"tank/a:b": True})
    assert parse_types("step-hold,last-received-hold") == {
        AbstractionType.STEP,
        AbstractionType.LAST_RECEIVED,
    }


@pytest.mark.parametrize("text", ["", "tank/a:", "tank/a:yes", "tank/a,tank/b", "tank<", "a<b:ok"])
def test_what_is_no_filesystem_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        parse_filesystems(text)


@pytest.mark.parametrize("text", ["", "step-hold,", "step_hold", "all"])
def test_what_is_no_type_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(InvalidName, match="tentative-replication-cursor-bookmark-v2"):
        parse_types(text)


def test_an_empty_job_does_not_mean_every_job() -> None:
    with pytest.raises(InvalidName):
        parse_job("")


@pytest.mark.parametrize(
    ("types", "fine"),
    [
        ("step-hold", False),
        ("replication-cursor-bookmark-v2,last-received-hold", False),
        ("step-hold,replication-cursor-bookmark-v2", True),
        ("last-received-hold", True),
    ],
)
def test_step_holds_and_cursors_tell_staleness_only_together(types: str, fine: bool) -> None:
    if fine:
        check_tells_staleness(parse_types(types))
    else:
        with pytest.raises(InvalidName, match="name both, or neither"):
            check_tells_staleness(parse_types(types))
