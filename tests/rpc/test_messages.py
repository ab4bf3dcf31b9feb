from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zrepl_trio.endpoint.model import (
    Filesystem,
    GuaranteeKind,
    Protection,
    ReceiveRequest,
    SendRequest,
)
from zrepl_trio.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from zrepl_trio.rpc import filesystems, messages
from zrepl_trio.rpc import pdu_pb2 as pdu
from zrepl_trio.rpc.messages import InvalidContent
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath

POOL_A = DatasetPath.parse("pool/a")
V1 = FilesystemVersion(
    kind=VersionKind.SNAPSHOT, name="a", guid=1, createtxg=2, creation=1704164645
)
V2 = FilesystemVersion(
    kind=VersionKind.BOOKMARK,
    name="b",
    guid=0xFEDCBA9876543210,
    createtxg=300,
    creation=1704161045,
)
V1_HEX = "120161180120022a14323032342d30312d30325430333a30343a30355a"
V2_ZONED_HEX = (
    "08011201621890e4d0b287d3aeeefe0120ac022a19323032342d30312d30325430333a30343a30352b30313a3030"
)
PROTECTION = Protection(initial=GuaranteeKind.RESUMABILITY, incremental=GuaranteeKind.INCREMENTAL)
PATH_HEX = "0a06706f6f6c2f61"
CONFIG_HEX = "0a0408011002"
FULL_SEND = SendRequest(filesystem=POOL_A, to=V1, protection=PROTECTION)
FULL_SEND_HEX = f"{PATH_HEX}1a1d{V1_HEX}3206{CONFIG_HEX}"
RESUMED_SEND = SendRequest(
    filesystem=POOL_A, from_=V2, to=V1, resume_token="1-ab", protection=PROTECTION
)
RECEIVE = ReceiveRequest(filesystem=POOL_A, to=V1, clear_resume_token=True, protection=PROTECTION)
RECEIVE_HEX = f"{PATH_HEX}121d{V1_HEX}180122" + f"06{CONFIG_HEX}"
LISTING_HEX = "0a080a06706f6f6c2f610a0a0a06706f6f6c2f621801"
RESULTS_HEX = f"0a300a1d{V1_HEX}120f646174617365742069732062757379"


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (messages.encode_versions([V1]), f"0a1d{V1_HEX}"),
        (messages.encode_send(FULL_SEND), FULL_SEND_HEX),
        (messages.encode_send_completed(FULL_SEND), f"122f{FULL_SEND_HEX}"),
        (messages.encode_receive(RECEIVE), RECEIVE_HEX),
        (messages.encode_send_result(used_resume_token=True, expected_size=300), "080110ac02"),
        (messages.encode_send_result(used_resume_token=False, expected_size=None), ""),
        (messages.encode_cursor(300), "08ac02"),
        (messages.encode_cursor(0), "0800"),
        (messages.encode_cursor(None), "1001"),
        (
            filesystems.encode_all(
                [Filesystem(path=POOL_A, resume_token="t", is_placeholder=True)]
            ),
            "0a0d0a06706f6f6c2f611201741801",
        ),
        (
            filesystems.encode_all(
                [
                    Filesystem(path=POOL_A),
                    Filesystem(path=DatasetPath.parse("pool/b"), is_placeholder=True),
                ]
            ),
            LISTING_HEX,
        ),
        (messages.encode_destroy(POOL_A, [V1]), f"{PATH_HEX}121d{V1_HEX}"),
        (
            messages.encode_destroy_results([V1], [DestroyResult("a", "dataset is busy")]),
            RESULTS_HEX,
        ),
        (messages.encode_ping("hi"), "0a026869"),
        (messages.encode_ping_echo("hi"), "0a026869"),
        (messages.encode_filesystem(POOL_A), PATH_HEX),
        (messages.encode_empty(), ""),
    ],
)
def test_messages_are_rendered_byte_for_byte(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


def test_messages_are_read() -> None:
    send = bytes.fromhex(f"{PATH_HEX}122e{V2_ZONED_HEX}1a1d{V1_HEX}2204312d61623206{CONFIG_HEX}")
    assert messages.decode_send(send) == RESUMED_SEND
    assert messages.decode_send(bytes.fromhex(FULL_SEND_HEX)) == FULL_SEND
    completed = bytes.fromhex(f"122f{FULL_SEND_HEX}")
    assert messages.decode_send_completed(completed) == FULL_SEND
    assert messages.decode_receive(bytes.fromhex(RECEIVE_HEX)) == RECEIVE
    assert messages.decode_send_result(bytes.fromhex("080110ac02")) == (True, 300)
    assert messages.decode_send_result(b"") == (False, None)
    assert messages.decode_cursor(bytes.fromhex("08ac02")) == 300
    assert messages.decode_cursor(bytes.fromhex("0800")) == 0
    assert messages.decode_cursor(bytes.fromhex("1001")) is None
    assert messages.decode_destroy(bytes.fromhex(f"{PATH_HEX}121d{V1_HEX}")) == (POOL_A, [V1])
    results = messages.decode_destroy_results(bytes.fromhex(RESULTS_HEX), [V1])
    assert results == [DestroyResult("a", "dataset is busy")]
    assert [
        f.is_placeholder
        for f in filesystems.decode_filesystems(bytes.fromhex(LISTING_HEX)).filesystems
    ] == [
        False,
        True,
    ]
    assert messages.decode_ping(bytes.fromhex("0a026869")) == "hi"
    assert messages.decode_ping_echo(bytes.fromhex("0a026869")) == "hi"
    assert messages.decode_filesystem(bytes.fromhex(PATH_HEX)) == POOL_A
    assert messages.decode_versions(bytes.fromhex(f"0a1d{V1_HEX}0a2e{V2_ZONED_HEX}")) == [V1, V2]
    messages.decode_empty(b"")


def test_a_dry_send_needs_no_replication_config() -> None:
    bare = bytes.fromhex(f"{PATH_HEX}1a1d{V1_HEX}")
    assert messages.decode_send(bare, dry=True) == SendRequest(filesystem=POOL_A, to=V1)
    with pytest.raises(InvalidContent, match="without replication config"):
        messages.decode_send(bare)


def test_what_is_ours_travels_in_fields_that_zrepl_skips() -> None:
    mine = [
        Filesystem(path=POOL_A, dataset_guid=number, written=number)
        for number in (None, 0, 2**64 - 1)
    ]
    assert filesystems.decode_filesystems(filesystems.encode_all(mine)).filesystems == mine


_NAMES = st.from_regex(r"[0-9A-Za-z_:][-0-9A-Za-z_.: ]{0,20}", fullmatch=True)
_GUIDS = st.integers(0, 2**64 - 1)
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join).map(DatasetPath.parse)
_VERSIONS = st.builds(
    FilesystemVersion,
    kind=st.sampled_from(VersionKind),
    name=_NAMES,
    guid=_GUIDS,
    createtxg=_GUIDS,
    creation=st.integers(0, 253402300799),
)
_SNAPSHOTS = _VERSIONS.filter(lambda version: version.is_snapshot)
_PROTECTIONS = st.builds(
    Protection, initial=st.sampled_from(GuaranteeKind), incremental=st.sampled_from(GuaranteeKind)
)
_TOKENS = st.none() | st.from_regex(r"1-[0-9a-f]{1,8}-[0-9a-f]{1,30}", fullmatch=True)


@given(
    st.builds(
        SendRequest,
        filesystem=_PATHS,
        to=_VERSIONS,
        from_=st.none() | _VERSIONS,
        resume_token=_TOKENS,
        protection=_PROTECTIONS,
    )
)
def test_send_requests_come_back(request: SendRequest) -> None:
    assert messages.decode_send(messages.encode_send(request)) == request
    assert messages.decode_send_completed(messages.encode_send_completed(request)) == request


@given(
    st.builds(
        ReceiveRequest,
        filesystem=_PATHS,
        to=_SNAPSHOTS,
        clear_resume_token=st.booleans(),
        protection=_PROTECTIONS,
        source_guid=st.none() | st.integers(0, 2**64 - 1),
    )
)
def test_receive_requests_come_back(request: ReceiveRequest) -> None:
    assert messages.decode_receive(messages.encode_receive(request)) == request


@given(_PATHS, st.lists(_SNAPSHOTS, max_size=5))
def test_destroy_requests_come_back(path: DatasetPath, snapshots: list[FilesystemVersion]) -> None:
    assert messages.decode_destroy(messages.encode_destroy(path, snapshots)) == (path, snapshots)
    results = [DestroyResult(snapshot.name, "why not") for snapshot in snapshots]
    answer = messages.encode_destroy_results(snapshots, results)
    assert messages.decode_destroy_results(answer, snapshots) == results


def version(**changes: object) -> pdu.FilesystemVersion:
    message = pdu.FilesystemVersion(Name="a", Guid=1, CreateTXG=2, Creation="2024-01-02T03:04:05Z")
    for field, value in changes.items():
        setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (version(Name=""), "empty"),
        (version(Name="-x@y"), "-x@y"),
        (version(Name="a/b"), "a/b"),
        (version(Name="a\nb"), r"a\nb"),
        (version(Name=".."), ".."),
        (version(Name="x" * 256), "longer than 255"),
        (version(Type=7), "unknown type 7"),
        (version(Creation=""), "creation time"),
        (version(Creation="yesterday"), "yesterday"),
    ],
    ids=str,
)
def test_a_bad_version_is_refused_by_name(bad: pdu.FilesystemVersion, said: str) -> None:
    listing = pdu.ListFilesystemVersionsRes(Versions=[version(), bad]).SerializeToString()
    with pytest.raises(InvalidContent) as caught:
        messages.decode_versions(listing)
    assert said in str(caught.value)


BAD_PATHS = [
    "",
    "/a",
    "a/",
    "a//b",
    "a/../b",
    "a/.",
    "-a",
    "a@b",
    "a#b",
    "a\0b",
    "a\nb",
    "é",
    "x" * 256,
]


@pytest.mark.parametrize("bad", BAD_PATHS, ids=repr)
@pytest.mark.parametrize(
    "decode",
    [
        lambda p: messages.decode_filesystem(
            pdu.ListFilesystemVersionsReq(Filesystem=p).SerializeToString()
        ),
        lambda p: filesystems.decode_filesystems(
            pdu.ListFilesystemRes(Filesystems=[pdu.Filesystem(Path=p)]).SerializeToString()
        ),
        lambda p: messages.decode_send(
            pdu.SendReq(Filesystem=p, To=version()).SerializeToString(), dry=True
        ),
        lambda p: messages.decode_receive(
            pdu.ReceiveReq(Filesystem=p, To=version()).SerializeToString()
        ),
        lambda p: messages.decode_destroy(
            pdu.DestroySnapshotsReq(Filesystem=p).SerializeToString()
        ),
    ],
    ids=["versions", "listing", "send", "receive", "destroy"],
)
def test_a_bad_path_is_refused_wherever_it_stands(
    decode: Callable[[str], object], bad: str
) -> None:
    with pytest.raises(InvalidContent, match="dataset path"):
        decode(bad)


@pytest.mark.parametrize("token", ["-t", "1-a b", "1-a\n", "a" * 70_000, "1/2", "é"])
def test_a_bad_resume_token_is_refused(token: str) -> None:
    request = pdu.SendReq(Filesystem="p", To=version(), ResumeToken=token)
    with pytest.raises(InvalidContent, match="resume token"):
        messages.decode_send(request.SerializeToString(), dry=True)


def config(initial: int, incremental: int) -> pdu.ReplicationConfig:
    message = pdu.ReplicationConfig()
    message.protection.Initial = initial  # type: ignore[assignment]  # as a peer might
    message.protection.Incremental = incremental  # type: ignore[assignment]
    return message


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (pdu.ReceiveReq(Filesystem="p", Config=config(1, 1)), "without `To`"),
        (
            pdu.ReceiveReq(Filesystem="p", To=version(Type=1), Config=config(1, 1)),
            "p#a: not a snap",
        ),
        (pdu.ReceiveReq(Filesystem="p", To=version(), Config=config(0, 1)), "guarantee kinds 0, 1"),
        (pdu.ReceiveReq(Filesystem="p", To=version(), Config=config(1, 9)), "guarantee kinds 1, 9"),
        (pdu.ReceiveReq(Filesystem="p", To=version()), "'p' without replication config"),
        (
            pdu.ReceiveReq(Filesystem="p", To=version(), Config=pdu.ReplicationConfig()),
            "'p' without replication config",
        ),
        (
            pdu.ReceiveReq(Filesystem="p" * 200, To=version(Name="s" * 100), Config=config(1, 1)),
            "longer than 255",
        ),
    ],
)
def test_a_bad_receive_request_is_refused(request_: pdu.ReceiveReq, said: str) -> None:
    with pytest.raises(InvalidContent, match=said):
        messages.decode_receive(request_.SerializeToString())


def test_requests_that_lack_their_object_are_refused() -> None:
    with pytest.raises(InvalidContent, match="without `To`"):
        messages.decode_send(messages.encode_filesystem(POOL_A))
    with pytest.raises(InvalidContent, match="SendCompleted"):
        messages.decode_send_completed(b"")
    with pytest.raises(InvalidContent, match="cursor"):
        messages.decode_cursor(b"")


def test_only_snapshots_are_destroyed() -> None:
    with pytest.raises(InvalidContent, match='"#b" is not a snapshot'):
        messages.decode_destroy(messages.encode_destroy(POOL_A, [V1, V2]))


def test_results_about_other_snapshots_are_refused() -> None:
    with pytest.raises(InvalidContent, match="not about those asked for"):
        messages.decode_destroy_results(bytes.fromhex(RESULTS_HEX), [])
    with pytest.raises(LocalProtocolError):
        messages.encode_destroy_results([V1], [])


def test_a_number_that_does_not_fit_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError, match="64 bits"):
        messages.encode_cursor(2**64)


DECODERS: list[Callable[[bytes], object]] = [
    messages.decode_empty,
    filesystems.decode_filesystems,
    messages.decode_filesystem,
    messages.decode_versions,
    messages.decode_cursor,
    messages.decode_destroy,
    lambda data: messages.decode_destroy_results(data, [V1]),
    messages.decode_send,
    messages.decode_send_completed,
    messages.decode_send_result,
    messages.decode_receive,
    messages.decode_ping,
    messages.decode_ping_echo,
]


@pytest.mark.parametrize("decode", DECODERS)
def test_bytes_that_are_no_protobuf_are_refused(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(b"\xff\xff")


@given(st.sampled_from(DECODERS), st.binary(max_size=100))
def test_noise_is_only_ever_a_protocol_error(
    decode: Callable[[bytes], object], data: bytes
) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)


@given(
    st.sampled_from(DECODERS),
    st.sampled_from([FULL_SEND_HEX, RECEIVE_HEX, LISTING_HEX, RESULTS_HEX]),
    st.data(),
)
def test_damaged_messages_are_only_ever_a_protocol_error(
    decode: Callable[[bytes], object], good: str, data: st.DataObject
) -> None:
    damaged = bytearray.fromhex(good)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        decode(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
