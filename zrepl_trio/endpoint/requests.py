"""Checks a send request against what the sender really has, before any command acts on it.

The peer may be hostile or out of date: the versions it names must exist with the guids it
states, the job's encryption policy must fit the dataset, and a resume token, which could name
any dataset of this host, must say exactly what the request says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from zrepl_trio.errors import BadResumeToken, DatasetNotFound, Refused
from zrepl_trio.zfs.failures import GONE_SINCE
from zrepl_trio.zfs.model import Features, FilesystemVersion, ResumeToken, SendFlags
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "MAX_TOKEN_CHARS",
    "check_encryption",
    "check_features",
    "check_range",
    "check_token",
    "check_token_text",
    "find_version",
]

MAX_TOKEN_CHARS = 16 * 1024
"""Real tokens have some hundred characters; Linux takes no argument beyond 128 KiB."""

_TOKEN = re.compile(r"[!-~]+", re.ASCII)


def find_version(
    dataset: DatasetPath, wanted: FilesystemVersion, versions: Sequence[FilesystemVersion]
) -> FilesystemVersion:
    """Our own record of the version the peer means: same kind and name, and the same guid."""
    # mostly one of the newest is meant
    for version in reversed(versions):
        if version.name == wanted.name and version.kind is wanted.kind:
            if version.guid == wanted.guid:
                return version
            raise Refused(
                f"{version.full(dataset)} is not the one meant: its guid is {version.guid:#x}, "
                f"not {wanted.guid:#x}; it was destroyed and made anew since it was listed; "
                + GONE_SINCE
            )
    raise DatasetNotFound(
        f"{wanted.full(dataset)} does not exist (any more); {GONE_SINCE}",
        dataset=dataset,
    )


def check_range(
    dataset: DatasetPath,
    *,
    from_: FilesystemVersion | None,
    between: Sequence[FilesystemVersion],
    to: FilesystemVersion,
    versions: Sequence[FilesystemVersion],
) -> None:
    """Refuse unless `between` are all snapshots there are between the snapshots `from_` and `to`:
    zfs sends them all, named or not. The versions are our own records."""
    if from_ is None or not from_.is_snapshot:
        raise Refused(f"{dataset}: a range starts at a snapshot; zfs can send none from a bookmark")
    there = [v for v in versions if v.is_snapshot and from_.createtxg < v.createtxg < to.createtxg]
    if [(v.name, v.guid) for v in there] != [(v.name, v.guid) for v in between]:
        raise Refused(
            f"{dataset}: the range from {from_.relative} to {to.relative} names {len(between)} "
            f"snapshots between them, but there are {len(there)}: they changed since they were "
            "listed, and the next run plans anew"
        )


def check_encryption(dataset: DatasetPath, flags: SendFlags, *, encrypted: bool) -> None:
    """Refuse where the job's `send` options would change what is in clear text and what not."""
    if flags.encrypted and not encrypted:
        raise Refused(
            f"{dataset} is not encrypted, but the job demands it (`send.encrypted: true`): "
            "set it to false, or leave the dataset out"
        )
    if flags.raw and not flags.encrypted and encrypted:
        raise Refused(
            f"{dataset} is encrypted and `send.raw: true` would send it so, but the job says "
            "`send.encrypted: false`: set `send.encrypted: true`"
        )


def check_features(flags: SendFlags, features: Features, *, resuming: bool) -> None:
    """Refuse options that the installed zfs does not know."""
    if (flags.encrypted or flags.raw or flags.backup_properties) and not features.encryption:
        raise Refused(
            "`send.encrypted`, `send.raw` and `send.backup_properties` need a zfs with native "
            f"encryption (this is {features.version or 'an older one'})"
        )
    if resuming and not features.resumable_send:
        raise Refused("this zfs cannot resume a send: update it, or clear the receiver's token")


def check_token_text(dataset: DatasetPath, token: str) -> str:
    """`token`, if it can be an argument of zfs at all; BadResumeToken otherwise."""
    if len(token) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise BadResumeToken(f"{dataset}: the resume token is no token", dataset=dataset)
    return token


def check_token(
    dataset: DatasetPath,
    token: ResumeToken,
    *,
    from_: FilesystemVersion | None,
    to: FilesystemVersion,
    flags: SendFlags,
    encrypted: bool,
) -> None:
    """BadResumeToken unless the token resumes exactly the step from `from_` to `to`."""
    named, _, _ = token.to_name.partition("@")
    fault = ""
    if named != dataset:
        fault = f"it is for {named!r}"
    elif token.to_guid != to.guid:
        fault = f"it ends at guid {token.to_guid:#x}, not at {to.relative} ({to.guid:#x})"
    elif token.from_guid != (from_.guid if from_ is not None else None):
        base = "no base" if token.from_guid is None else f"base guid {token.from_guid:#x}"
        meant = "none" if from_ is None else f"{from_.relative} ({from_.guid:#x})"
        fault = f"it has {base}, the request {meant}"
    elif (encrypted and token.raw_ok) != flags.encrypted:
        fault = (
            "it resumes a raw send, which the job forbids (`send.encrypted: false`)"
            if token.raw_ok
            else "it resumes a send in clear text, which the job forbids (`send.encrypted: true`)"
        )
    if fault:
        raise BadResumeToken(
            f"{dataset}: the resume token does not fit the request: {fault}", dataset=dataset
        )
