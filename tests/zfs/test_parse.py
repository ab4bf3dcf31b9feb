"""Output of zfs to values: recorded output, any chunking, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.zfs.argv import DATASET_PROPERTIES
from zrepl_trio.zfs.features import features_from_usage
from zrepl_trio.zfs.model import (
    Dataset,
    FilesystemVersion,
    Hold,
    Property,
    PropertySource,
    ResumeToken,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.parse import (
    MAX_ROW_BYTES,
    DatasetRows,
    HoldRows,
    PropertyRows,
    Rows,
    Unexpected,
    VersionRows,
    parse_resume_token,
    parse_send_size,
    parse_zfs_version,
)
from zrepl_trio.zfs.placeholders import is_placeholder, legacy_hash

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "golden/zfs/commands.json").read_text()
)
R = TypeVar("R", bound=Rows)
TANK_A = DatasetPath.parse("tank/a")


def out(name: str) -> str:
    return str(GOLDEN[name]["stdout"])


def fed(rows: R, text: str) -> R:
    rows.feed(text.encode())
    rows.end()
    return rows


def dataset_text(name: str, **changes: str) -> str:
    values = {
        "guid": "7\t-",
        "type": "filesystem\t-",
        "zrepl:placeholder": "-\t-",
        "receive_resume_token": "-\t-",
        "encryption": "off\tdefault",
        "written": "0\t-",
        "zrepl-trio:source-guid": "-\t-",
    }
    values |= {key.replace("placeholder", "zrepl:placeholder"): v for key, v in changes.items()}
    return "".join(f"{name}\t{prop}\t{values[prop]}\n" for prop in DATASET_PROPERTIES)


# -- datasets --------------------------------------------------------------------------------


def test_datasets_in_the_order_of_zfs() -> None:
    text = (
        dataset_text("tank")
        + dataset_text("tank/a", guid="18446744073709551615\t-", type="volume\t-")
        + dataset_text("tank/a/b", placeholder="on\tlocal", receive_resume_token="1-a-b-c\t-")
        + dataset_text(
            "tank/c",
            placeholder="on\tinherited from tank",
            encryption="aes-256-gcm\t-",
            written="12\t-",
        )
    )
    assert fed(DatasetRows(), text).result() == [
        Dataset(path=DatasetPath("tank"), guid=7),
        Dataset(path=DatasetPath("tank/a"), guid=2**64 - 1, is_volume=True),
        Dataset(
            path=DatasetPath("tank/a/b"),
            guid=7,
            is_placeholder=True,
            placeholder_value="on",
            resume_token="1-a-b-c",
        ),
        Dataset(path=DatasetPath("tank/c"), guid=7, encrypted=True, written=12),
    ]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ("77\tlocal", 77),
        ("77\tinherited from tank", None),
        ("77\treceived", None),
        ("x\tlocal", None),
        ("-\t-", None),
    ],
)
def test_source_guid_counts_only_where_we_set_it(noted: str, expected: int | None) -> None:
    text = dataset_text("tank").replace(
        "zrepl-trio:source-guid\t-\t-", f"zrepl-trio:source-guid\t{noted}"
    )
    assert fed(DatasetRows(), text).result()[0].source_guid == expected


@pytest.mark.parametrize(
    "text",
    [
        dataset_text("tank").replace("tank\tguid\t7\t-\n", ""),
        dataset_text("tank") + "tank\tguid\t8\t-\n",
        dataset_text("tank", guid="-\t-"),
        dataset_text("tank", guid=f"{2**64}\t-"),
        dataset_text("tank", type="snapshot\t-"),
        dataset_text("tank//a"),
        dataset_text("tank/../a"),
        dataset_text("tank", guid="7\tmagic"),
        "tank\tguid\t7\n",
        "tank\tother\t7\t-\n",
        "internal error: out of memory\n",
        "\n",
        dataset_text("tank")[:-1],
    ],
)
def test_unexpected_dataset_rows_are_refused(text: str) -> None:
    with pytest.raises(Unexpected):
        fed(DatasetRows(), text).result()


def test_a_value_that_poses_as_another_datasets_row_is_refused() -> None:
    text = dataset_text("tank") + dataset_text(
        "tank/evil", placeholder="x\tlocal\ntank\tzrepl:placeholder\ton\tlocal"
    )
    with pytest.raises(Unexpected, match="twice"):
        fed(DatasetRows(), text)


# -- properties ------------------------------------------------------------------------------


def test_properties_as_recorded() -> None:
    rows = fed(PropertyRows(["a:b"]), out("zfs.get.user-property-inherited"))
    assert rows.of("tank/p/q") == {"a:b": Property("hello world", PropertySource.INHERITED)}
    rows = fed(PropertyRows(["a:empty"]), out("zfs.get.user-property-empty"))
    assert rows.of("tank/p") == {"a:empty": Property("", PropertySource.LOCAL)}
    rows = fed(PropertyRows(["a:tab"]), out("zfs.get.tab-in-value"))
    assert rows.of("tank/p") == {"a:tab": Property("x\ty", PropertySource.LOCAL)}
    rows = fed(PropertyRows(["zrepl:placeholder"]), out("zfs.get.placeholder-none"))
    assert rows.of("backup") == {"zrepl:placeholder": Property("-", PropertySource.NONE)}
    rows = fed(PropertyRows(["a:b", "mountpoint"]), out("zfs.get.received-in-source-column"))
    assert rows.of("backup/props")["a:b"] == Property("sent", PropertySource.RECEIVED)


# -- placeholders ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        ("tank", "d028b05b7c52de50c4853f58e82a206b08f998d3bce0cac7f6bd7a0cb0338751"),
        ("storage/backups", "92f1e8dcc3bf510afc9b4bf69309bce1cff3b3dfa397d7b2e0a8147108cb9c45"),
    ],
)
def test_legacy_hash(path: str, digest: str) -> None:
    assert legacy_hash(path) == digest
    assert is_placeholder(path, digest, PropertySource.LOCAL)
    assert not is_placeholder(path + "x", digest, PropertySource.LOCAL)


@pytest.mark.parametrize("source", PropertySource)
def test_only_a_local_value_makes_a_placeholder(source: PropertySource) -> None:
    assert is_placeholder("tank", "on", source) == (source is PropertySource.LOCAL)
    assert not is_placeholder("tank", "off", source)
    assert not is_placeholder("tank", "-", source)


# -- versions --------------------------------------------------------------------------------


def test_versions_as_recorded() -> None:
    found = fed(VersionRows(), out("zfs.list.versions-bookmark,snapshot")).result()
    assert list(found) == [TANK_A]
    # zfs has the snapshot before bookmarks of the same txg
    assert [v.relative for v in found[TANK_A]] == ["#b1", "#b1short", "#copy", "@1", "@2"]
    mark, snap = found[TANK_A][0], found[TANK_A][3]
    assert (mark.guid, mark.createtxg, mark.creation) == (snap.guid, snap.createtxg, snap.creation)
    assert (mark.userrefs, snap.userrefs) == (None, 0)
    assert fed(VersionRows(), out("zfs.list.versions-none")).result() == {}


def test_names_with_spaces_and_colons() -> None:
    found = fed(VersionRows(), "tank/a b@x y:z\t1\t2\t3\t4\n").result()
    assert found == {
        DatasetPath("tank/a b"): [
            FilesystemVersion(
                kind=VersionKind.SNAPSHOT,
                name="x y:z",
                guid=1,
                createtxg=2,
                creation=3,
                userrefs=4,
            )
        ]
    }


@pytest.mark.parametrize(
    "row",
    [
        "tank/a@1\t1\t2\t3",
        "tank/a@1\t1\t2\t3\t4\t5",
        "tank/a\t1\t2\t3\t4",
        "tank/a@1\t-1\t2\t3\t4",
        "tank/a@1\t1\t2\t3\t-",
        "tank/a#1\t1\t2\t3\t0",
        "tank/a@b@c\t1\t2\t3\t0",
        "tank//a@b\t1\t2\t3\t0",
        "tank/a@b/c\t1\t2\t3\t0",
        "tank/a@\t1\t2\t3\t0",
        "tank/a@x\t\u0661\t2\t3\t0",
        f"tank/a@x\t{2**64}\t2\t3\t0",
        "",
    ],
)
def test_unexpected_version_rows_are_refused(row: str) -> None:
    with pytest.raises(Unexpected):
        fed(VersionRows(), row + "\n")


# -- holds -----------------------------------------------------------------------------------


HELD = {f"tank/a@{name}": (TANK_A, name) for name in ("1", "2")}


def test_holds_as_recorded() -> None:
    rows = fed(HoldRows(HELD), out("zfs.holds.two-snapshots"))
    assert set(rows.result()) == {Hold(TANK_A, "1", "zrepl_STEP_J_job"), Hold(TANK_A, "1", "other")}


@pytest.mark.parametrize("row", ["tank/a@3\ttag\tdate", "tank/a@1\ttag", "tank/a@1\t\tdate", "x"])
def test_unexpected_holds_are_refused(row: str) -> None:
    with pytest.raises(Unexpected):
        fed(HoldRows({"tank/a@1": (TANK_A, "1")}), row + "\n")


# -- any chunking ----------------------------------------------------------------------------

SAMPLES: list[tuple[Callable[[], Any], str]] = [
    (VersionRows, out("zfs.list.versions-bookmark,snapshot")),
    (DatasetRows, dataset_text("tank") + dataset_text("tank/b")),
    (lambda: HoldRows(HELD), out("zfs.holds.two")),
]


@pytest.mark.parametrize(("make", "text"), SAMPLES, ids=["versions", "datasets", "holds"])
@given(data=st.data())
def test_chunking_does_not_matter(make: Callable[[], Any], text: str, data: st.DataObject) -> None:
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    rows = make()
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        rows.feed(raw[begin:end])
    rows.end()
    assert rows.result() == fed(make(), text).result()


@pytest.mark.parametrize(("make", "text"), SAMPLES, ids=["versions", "datasets", "holds"])
def test_byte_by_byte_and_every_prefix(make: Callable[[], Any], text: str) -> None:
    raw = text.encode()
    rows = make()
    for at in range(len(raw)):
        if at and raw[at - 1 : at] != b"\n":
            with pytest.raises(Unexpected, match="ends inside a row"):
                rows.end()
        rows.feed(raw[at : at + 1])
    rows.end()
    assert rows.result() == fed(make(), text).result()


@given(noise=st.binary(max_size=300))
@pytest.mark.parametrize("make", [make for make, _ in SAMPLES])
def test_noise_is_refused_or_read_and_nothing_else(make: Callable[[], Any], noise: bytes) -> None:
    rows = make()
    try:
        rows.feed(noise)
        rows.end()
        rows.result()
    except Unexpected:
        pass


def test_an_endless_row_is_refused_before_it_fills_memory() -> None:
    rows = VersionRows()
    for _ in range(MAX_ROW_BYTES // 4096):
        rows.feed(b"x" * 4096)
    with pytest.raises(Unexpected, match="more than"):
        rows.feed(b"x")
    with pytest.raises(Unexpected, match="row of"):
        VersionRows().feed(b"x" * (MAX_ROW_BYTES + 1) + b"\n")


# -- sizes, tokens, versions, features -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("zfs.send.dry-full", 2114544),
        ("zfs.send.dry-incremental", 2109424),
        ("zfs.send.dry-from-bookmark", 2109424),
        ("zfs.send.dry-empty-snapshot", 624),
        ("zfs.send.token-dry-n-v-P", 1060912),
    ],
)
def test_send_sizes_as_recorded(name: str, size: int) -> None:
    found = parse_send_size(out(name) + str(GOLDEN[name]["stderr"]))
    assert found is not None
    assert abs(found - size) < 0.02 * size + 100


@pytest.mark.parametrize(
    ("output", "size"),
    [
        ("full\ttank/a@1\t5\n", 5),
        ("incremental\ttank/a@1\ttank/a@2\t5\n", 5),
        ("incremental\t1\ttank/a@2\t5\nsize\t7\n", 7),
        ("full\ttank/a@1\n", None),
        ("full\ttank/a@1\t0\nsize\t0\n", None),
        ("size\t18446744073709551000\n", None),
    ],
)
def test_send_sizes(output: str, size: int | None) -> None:
    assert parse_send_size(output) == size


@pytest.mark.parametrize("output", ["", "cannot\n", "full\ttank/a\t5\n", "size\tbig\n"])
def test_send_size_that_is_none_is_refused(output: str) -> None:
    with pytest.raises(Unexpected):
        parse_send_size(output)


def token_fields(name: str) -> ResumeToken:
    return parse_resume_token(out(name))


def test_resume_tokens_as_recorded() -> None:
    full = token_fields("zfs.send.token-dry-vt")
    assert (full.to_name, full.from_guid, full.raw_ok) == ("tank/a@1", None, False)
    assert full.bytes_received is not None
    assert full.bytes_received > 2**20
    step = token_fields("zfs.send.token-incremental-dry-vt")
    assert (step.to_name, step.from_guid) == ("tank/a@2", full.to_guid)
    raw = token_fields("zfs.send.token-raw-dry-vt")
    assert (raw.raw_ok, raw.compress_ok, raw.embed_ok) == (True, True, False)
    flags = token_fields("zfs.send.token-flags-dry-vt")
    assert (flags.raw_ok, flags.compress_ok, flags.embed_ok) == (False, True, True)
    # also where zfs goes on to say that the snapshot is gone
    assert token_fields("zfs.send.token-snapshot-gone-dry").to_name == "tank/gone@1"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "cannot resume send: resume token is corrupt (invalid format)\n",
        "resume token contents:\nnvlist version: 0\n\ttoname = tank/a@1\n",
        "resume token contents:\nnvlist version: 0\n\ttoguid = 0x1\n",
        "resume token contents:\nnvlist version: 0\n\ttoguid = x\n\ttoname = tank/a@1\n",
    ],
)
def test_output_without_a_token_is_refused(output: str) -> None:
    with pytest.raises(Unexpected):
        parse_resume_token(output)


def test_decimal_numbers_in_a_token() -> None:
    found = parse_resume_token(
        "resume token contents:\nnvlist version: 0\n\tfromguid = 12\n\ttoguid = 34\n"
        "\ttoname = tank/a@1\n\tlargeblockok = 1\n\tsavedok = true\n"
    )
    assert (found.from_guid, found.to_guid, found.large_block_ok, found.saved_ok) == (
        12,
        34,
        True,
        True,
    )


def test_zfs_version() -> None:
    assert parse_zfs_version(out("version.zfs")).startswith("2.3.9")
    assert parse_zfs_version("unrecognized command 'version'\n") == ""


def usage(command: str) -> str:
    return str(GOLDEN[f"usage.{command}"]["stderr"])


def test_features_of_real_zfs() -> None:
    found = features_from_usage(
        version=out("version.zfs"),
        send=usage("send"),
        receive=usage("receive"),
        destroy=usage("destroy"),
        load_key=usage("load-key"),
    )
    assert found.version.startswith("2.3.9")
    assert found.encryption
    assert found.resumable_send
    assert found.resumable_receive
    assert found.comma_destroy


def test_features_of_a_zfs_that_has_none() -> None:
    found = features_from_usage(version="", send="", receive="", destroy="", load_key="")
    assert not found.encryption
    assert not found.resumable_send
    assert not found.resumable_receive
    assert not found.comma_destroy
