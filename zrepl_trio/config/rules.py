"""Sections that jobs share: snapshotting, send, recv, replication."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from zrepl_trio.config.base import FromDefaults, Section, bad
from zrepl_trio.config.fields import (
    Bits,
    Count,
    Cron,
    Flag,
    Interval,
    PropertyName,
    RequiredText,
    Targets,
    Text,
    null_is_empty_list,
    null_is_empty_map,
)
from zrepl_trio.config.hooks import Hook
from zrepl_trio.config.timestamps import NamingError, SnapshotNaming
from zrepl_trio.zfs.targets import WHOLE

__all__ = [
    "BandwidthLimit",
    "Concurrency",
    "ConflictResolution",
    "CronSnapshotting",
    "ManualSnapshotting",
    "PeriodicSnapshotting",
    "Placeholder",
    "Protection",
    "RecvOptions",
    "RecvProperties",
    "Replication",
    "SendOptions",
    "Snapshotting",
]


# Snapshotting


_Hooks = Annotated[tuple[Hook, ...], BeforeValidator(null_is_empty_list)]


class ManualSnapshotting(Section):
    """Take no snapshots; others do."""

    type: Literal["manual"]


class _NamedSnapshots(Section):
    prefix: RequiredText
    """Names start with it."""
    hooks: _Hooks = ()
    """What runs around each snapshot, in this order before and in reverse after."""
    atomic: Flag = False
    """Take those of all filesystems of a pool at one moment, under one name, with the hooks run once
    around all of them. A key of zrepl-trio."""
    skip_unchanged: Flag = False
    """Take none of a filesystem that was not written to since its newest one with the prefix.
    A key of zrepl-trio."""
    timestamp_format: Text = "dense"
    """dense, human, iso-8601, unix-seconds, or a Go time layout."""
    timestamp_location: Annotated[Text, Field(validate_default=True)] = "UTC"
    """Zone of the time in names: UTC, Local or an IANA name."""

    # On the last field, so that all that makes up the name is known by then.
    @field_validator("timestamp_location")
    @classmethod
    def _name_is_legal(cls, location: str, info: ValidationInfo) -> str:
        prefix, layout = info.data.get("prefix"), info.data.get("timestamp_format")
        if prefix is not None and layout is not None:
            try:
                SnapshotNaming.checked(prefix, layout, location)
            except NamingError as error:
                raise bad(error.message, error.accepted, key=error.key) from None
        return location

    @property
    def naming(self) -> SnapshotNaming:
        """How the snapshots are named."""
        return SnapshotNaming(self.prefix, self.timestamp_format, self.timestamp_location)


class PeriodicSnapshotting(_NamedSnapshots):
    """Take snapshots at an interval."""

    type: Literal["periodic"]
    interval: Interval
    """Time between snapshots."""


class CronSnapshotting(_NamedSnapshots):
    """Take snapshots at the times of a cron spec."""

    type: Literal["cron"]
    cron: Cron
    """When."""


Snapshotting = Annotated[
    ManualSnapshotting | PeriodicSnapshotting | CronSnapshotting, Field(discriminator="type")
]


# Sending and receiving


class BandwidthLimit(Section):
    """A limit on the job's data streams together."""

    max: Bits = -8.0
    """Per second; negative is no limit."""
    bucket_capacity: Bits = 128 * 1024 * 8.0
    """Size of a burst."""

    @field_validator("max")
    @classmethod
    def _useful_rate(cls, bits: float) -> float:
        if 0 <= bits < 8:
            raise bad("is less than 1 byte a second", "at least 1 B, or `-1 B` for no limit")
        return bits

    @field_validator("bucket_capacity")
    @classmethod
    def _useful_bucket(cls, bits: float) -> float:
        if bits < 8:
            raise bad("is less than 1 byte", "at least 1 B")
        return bits

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.max >= 0


_Bandwidth = Annotated[BandwidthLimit, FromDefaults]


class SendOptions(Section):
    """How the sending side runs `zfs send`."""

    encrypted: Flag = False
    """`-w`, and refuse filesystems that are not encrypted."""
    raw: Flag = False
    """`-w`; encrypted filesystems need `encrypted: true`."""
    send_properties: Flag = False
    """`-p`."""
    backup_properties: Flag = False
    """`-b`."""
    large_blocks: Flag = False
    """`-L`; do not change it once a filesystem has been replicated."""
    compressed: Flag = False
    """`-c`."""
    embedded_data: Flag = False
    """`-e`."""
    saved: Flag = False
    """`-S`."""
    bandwidth_limit: _Bandwidth = BandwidthLimit()
    """Limit on sending."""


_Properties = Annotated[tuple[PropertyName, ...], BeforeValidator(null_is_empty_list)]


class RecvProperties(Section):
    """Properties of received filesystems."""

    inherit: _Properties = ()
    """Ignore what the sender says of these (`zfs recv -x`)."""
    override: Annotated[dict[PropertyName, Text], BeforeValidator(null_is_empty_map)] = {}  # noqa: RUF012
    """Set these whatever the sender says (`zfs recv -o`)."""
    accept: _Properties = ()
    """Take these from the sender although they can act on this host, such as mountpoint, canmount,
    exec, setuid, sharenfs, which are otherwise left out. A key of zrepl-trio."""

    @field_validator("override")
    @classmethod
    def _override_or_inherit(cls, override: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name in info.data.get("inherit", ()):
            if name in override:
                raise bad(f"{name} is also in `inherit`; zfs takes a property only once")
        return override

    @field_validator("accept")
    @classmethod
    def _accept_or_else(cls, accept: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for name in accept:
            for key in ("inherit", "override"):
                if name in info.data.get(key, ()):
                    raise bad(f"{name} is also in `{key}`, which does not take it from the sender")
        return accept


class Placeholder(Section):
    """Filesystems made only to be parents of received ones."""

    encryption: Literal["unspecified", "inherit", "off"] = "unspecified"
    """`unspecified` refuses to make one where it would matter."""


class RecvOptions(Section):
    """How the receiving side runs `zfs recv`."""

    target: Annotated[Targets, FromDefaults] = WHOLE
    """Where each of the sender's filesystems goes, below the root. A key of zrepl-trio."""
    properties: Annotated[RecvProperties, FromDefaults] = RecvProperties()
    """Properties of received filesystems."""
    bandwidth_limit: _Bandwidth = BandwidthLimit()
    """Limit on receiving."""
    placeholder: Annotated[Placeholder, FromDefaults] = Placeholder()
    """Filesystems made only to be parents of received ones."""
    unmounted: Flag = True
    """Receive with `zfs recv -u`, so that nothing gets mounted; false is zrepl's way.
    A key of zrepl-trio."""


# Replication

ProtectionKind = Literal["guarantee_resumability", "guarantee_incremental", "guarantee_nothing"]


class Protection(Section):
    """What is held on both sides while a step runs."""

    initial: ProtectionKind = "guarantee_resumability"
    """For full sends."""
    incremental: ProtectionKind = "guarantee_resumability"
    """For incremental sends."""


class Concurrency(Section):
    """How much runs at once."""

    steps: Count = 1
    """Filesystems sent at once."""
    size_estimates: Count = 4
    """Size estimates asked for at once."""


class Replication(Section):
    """How replication runs."""

    protection: Annotated[Protection, FromDefaults] = Protection()
    """What is held on both sides while a step runs."""
    concurrency: Annotated[Concurrency, FromDefaults] = Concurrency()
    """How much runs at once."""


class ConflictResolution(Section):
    """What to do where the two sides do not fit."""

    initial_replication: Literal["most_recent", "all", "fail"] = "most_recent"
    """Which snapshots the first replication sends."""
    divergence: Literal["fail", "rollback", "keep_copy"] = "fail"
    """What becomes of a replica that no longer fits. A key of zrepl-trio."""
    renames: Literal["send_anew", "follow"] = "send_anew"
    """What becomes of the replica of a dataset that was renamed. A key of zrepl-trio."""
