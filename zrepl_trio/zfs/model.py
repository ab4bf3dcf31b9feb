"""What zfs tells us and what we ask of it, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter

from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "Dataset",
    "DatasetBrief",
    "DestroyResult",
    "Features",
    "FilesystemVersion",
    "Hold",
    "Property",
    "PropertySource",
    "ReceiveArgs",
    "ResumeToken",
    "SendArgs",
    "SendFlags",
    "VersionKind",
    "date_of",
    "in_order",
]

_EARLIEST = int(datetime(1, 1, 3, tzinfo=UTC).timestamp())
_LATEST = int(datetime(9999, 12, 29, tzinfo=UTC).timestamp())
"""Of what is further away, no zone could tell the time of day."""


def date_of(creation: int) -> datetime:
    """When that is, in UTC. A stream can carry any number of seconds: what is outside the calendar is
    taken for its first or last days."""
    return datetime.fromtimestamp(min(max(creation, _EARLIEST), _LATEST), UTC)


class VersionKind(Enum):
    """Snapshot or bookmark; the value is the sign between dataset and name."""

    SNAPSHOT = "@"
    BOOKMARK = "#"


@valueclass(frozen=True, slots=True, kw_only=True)
class FilesystemVersion:
    """One snapshot or bookmark of one filesystem or volume.

    `name` is without dataset and sign. `creation` is in whole seconds since the epoch, as
    zfs prints it. Two versions hold the same data exactly when their `guid` is equal.
    `userrefs` counts holds; None for a bookmark or when it is unknown.
    """

    kind: VersionKind
    name: str
    guid: int
    createtxg: int
    creation: int
    userrefs: int | None = None

    @property
    def is_snapshot(self) -> bool:
        return self.kind is VersionKind.SNAPSHOT

    @property
    def relative(self) -> str:
        """`@name` or `#name`."""
        return f"{self.kind.value}{self.name}"

    def full(self, dataset: str) -> str:
        """`dataset@name` or `dataset#name`."""
        return f"{dataset}{self.kind.value}{self.name}"


_BY_CREATETXG = attrgetter("createtxg")


def in_order(versions: Iterable[FilesystemVersion]) -> list[FilesystemVersion]:
    """By createtxg, oldest first; a bookmark before a snapshot of the same (zfs has it after)."""
    listed = list(versions)
    bookmarks = [v for v in listed if v.kind is VersionKind.BOOKMARK]
    if bookmarks:
        # sorting keeps the order of those of one transaction
        listed = bookmarks + [v for v in listed if v.kind is VersionKind.SNAPSHOT]
    listed.sort(key=_BY_CREATETXG)
    return listed


class PropertySource(Enum):
    """First word of zfs's `source` column."""

    LOCAL = "local"
    DEFAULT = "default"
    INHERITED = "inherited"
    NONE = "-"
    TEMPORARY = "temporary"
    RECEIVED = "received"


@valueclass(frozen=True, slots=True)
class Property:
    """A property's value, `-p` form, and where it comes from."""

    value: str
    source: PropertySource


@valueclass(frozen=True, slots=True, kw_only=True)
class DatasetBrief:
    """As much of a filesystem or volume as who sends it has to know.

    `guid` is the dataset's own (not a snapshot's); `is_placeholder` follows zrepl's rule
    (zrepl:placeholder local and `on`, or 0.0.x's hash).
    """

    path: DatasetPath
    guid: int
    is_placeholder: bool = False
    encrypted: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Dataset(DatasetBrief):
    """A filesystem or volume as a receiver, and who looks after one, has to know it.

    `placeholder_value` is the local value of zrepl:placeholder, empty when it has none;
    `resume_token` is None when there is no partly received state; `source_guid` is what our receiver
    noted of the sender's dataset. `written` are the bytes written since its newest snapshot: 0 says
    for sure that nothing was; some are also there after no more than a mount.
    """

    is_volume: bool = False
    placeholder_value: str = ""
    resume_token: str | None = None
    source_guid: int | None = None
    written: int = 0


@valueclass(frozen=True, slots=True)
class Hold:
    """A user hold `tag` on `dataset@snapshot`."""

    dataset: DatasetPath
    snapshot: str
    tag: str


@valueclass(frozen=True, slots=True)
class DestroyResult:
    """What became of one snapshot: `error` is empty when it is gone."""

    name: str
    error: str = ""


@valueclass(frozen=True, slots=True, kw_only=True)
class ResumeToken:
    """A decoded receive_resume_token; `from_guid` None means a full stream."""

    to_name: str
    to_guid: int
    from_guid: int | None = None
    bytes_received: int | None = None
    raw_ok: bool = False
    compress_ok: bool = False
    embed_ok: bool = False
    large_block_ok: bool = False
    saved_ok: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class SendFlags:
    """The serving job's `send` options, in zrepl's terms."""

    encrypted: bool = False
    raw: bool = False
    properties: bool = False
    backup_properties: bool = False
    large_blocks: bool = False
    compressed: bool = False
    embedded_data: bool = False
    saved: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class SendArgs:
    """One `zfs send`. With `token` nothing else reaches the command line. `packed`: with all
    snapshots between the snapshots `from_` and `to`, one after the other."""

    dataset: DatasetPath
    to: FilesystemVersion
    from_: FilesystemVersion | None = None
    token: str | None = None
    packed: bool = False
    flags: SendFlags = field(default_factory=SendFlags)


@valueclass(frozen=True, slots=True, kw_only=True)
class ReceiveArgs:
    """One `zfs recv` into `dataset@snapshot`; of a `packed` stream, whose snapshots keep the names
    that they have in it, and of which `snapshot` is the last.

    `force` is `-F` (over placeholders only), `resumable` `-s`, `unmounted` `-u`; `exclude`
    becomes `-x NAME`, `override` `-o NAME=VALUE`.
    """

    dataset: DatasetPath
    snapshot: str
    packed: bool = False
    force: bool = False
    resumable: bool = True
    unmounted: bool = True
    exclude: tuple[str, ...] = ()
    override: Mapping[str, str] = field(default_factory=dict)


@valueclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the installed zfs can do; asked once a process."""

    version: str = ""
    encryption: bool = True
    resumable_send: bool = True
    resumable_receive: bool = True
    comma_destroy: bool = True
