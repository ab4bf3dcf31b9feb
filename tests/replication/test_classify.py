from __future__ import annotations

import pytest

from zrepl_trio.errors import (
    BadResumeToken,
    ConnectFailed,
    DatasetBusy,
    DatasetNotFound,
    HandshakeFailed,
    NoSpace,
    PeerTimeout,
    ReceiveInterrupted,
    ReceiveRefused,
    Refused,
    RemoteError,
    RemoteProtocolError,
    SourceFailed,
    TransportError,
    ZfsError,
    ZreplError,
    leaves,
)
from zrepl_trio.replication.classify import (
    ErrorClass,
    classify,
    main_error,
    spoils_token,
)
from zrepl_trio.zfs.failures import GONE_SINCE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransportError("cut"), ErrorClass.RECONNECT),
        (ConnectFailed("refused"), ErrorClass.RECONNECT),
        (PeerTimeout("silent"), ErrorClass.RECONNECT),
        (HandshakeFailed("version 6"), ErrorClass.PERMANENT),
        (RemoteProtocolError("garbage"), ErrorClass.PERMANENT),
        (ReceiveInterrupted("early", token="1"), ErrorClass.RETRY),
        (SourceFailed("send died"), ErrorClass.RETRY),
        (DatasetBusy("busy"), ErrorClass.RETRY),
        (BadResumeToken("corrupt"), ErrorClass.RETRY),
        (NoSpace("full"), ErrorClass.PERMANENT),
        (ReceiveRefused("diverged"), ErrorClass.PERMANENT),
        (RemoteError("the peer's words"), ErrorClass.PERMANENT),
        (RemoteError(f"tank/a@1 does not exist (any more); {GONE_SINCE}"), ErrorClass.RETRY),
        (DatasetNotFound(f"destroyed; {GONE_SINCE}"), ErrorClass.RETRY),
        (DatasetNotFound("no such pool"), ErrorClass.PERMANENT),
        (Refused("no"), ErrorClass.PERMANENT),
        (ZfsError("?"), ErrorClass.PERMANENT),
        (ZfsError("failed", status=1), ErrorClass.PERMANENT),
        (ZfsError("killed", status=-9), ErrorClass.RETRY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_classes(error: ZreplError, expected: ErrorClass) -> None:
    assert classify(error) is expected


def test_the_links_error_is_the_main_one() -> None:
    link, other = TransportError("cut"), RemoteError("x")
    assert main_error([other, link]) is link
    assert main_error([other, Refused("y")]) is other


def test_leaves_of_nested_groups() -> None:
    one, two = Refused("1"), Refused("2")
    inner: ExceptionGroup[ZreplError] = ExceptionGroup("", [two])
    # typeshed has no nested groups
    group: ExceptionGroup[ZreplError] = ExceptionGroup("", [one, inner])  # type: ignore[list-item]
    assert list(leaves(group)) == [one, two]


@pytest.mark.parametrize(
    ("error", "moved", "spoils"),
    [
        (BadResumeToken("x"), 0, True),
        (BadResumeToken("x"), 1, False),
        (RemoteError("validate send arguments: resume token ToGUID != expected"), 0, True),
        (RemoteError("Resume token is corrupt"), 0, True),
        (RemoteError("out of space"), 0, False),
        (SourceFailed("resume token"), 0, False),
        (
            SourceFailed("zfs send: cannot resume send: 'a@1' is no longer the same snapshot"),
            0,
            True,
        ),
        (RemoteError("cannot resume send: 'a@1' no longer exists"), 0, True),
        # what the receiver's zfs says of a stream that does not set in where it stopped
        (ZfsError("cannot receive resume stream: kernel modules must be upgraded"), 10**6, True),
        (RemoteError("cannot receive resume stream: kernel modules must be upgraded"), 0, True),
        (RemoteError("cannot receive resume stream: out of space"), 0, False),
    ],
)
def test_what_spoils_a_token(error: ZreplError, moved: int, *, spoils: bool) -> None:
    assert spoils_token(error, moved=moved) is spoils
