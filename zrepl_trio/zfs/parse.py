r"""Output of zfs commands to values: bytes in, in any pieces, values out. Pure.

Rows are tab-separated and end with a newline. A value may hold a tab itself (user properties may),
so a property's row is taken apart from both ends. What doesn't fit is `Unexpected`: nothing is
guessed, since snapshots are destroyed on the strength of these listings.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from zrepl_trio.zfs.argv import (
    BRIEF_PROPERTIES,
    DATASET_PROPERTIES,
    PLACEHOLDER,
    SOURCE_GUID,
)
from zrepl_trio.zfs.model import (
    Dataset,
    DatasetBrief,
    FilesystemVersion,
    Hold,
    Property,
    PropertySource,
    ResumeToken,
    VersionKind,
    in_order,
)
from zrepl_trio.zfs.names import DatasetPath, InvalidName, check_snapshot_name
from zrepl_trio.zfs.placeholders import is_placeholder

__all__ = [
    "MAX_ROW_BYTES",
    "BriefRows",
    "DatasetRows",
    "HoldRows",
    "PropertyRows",
    "Rows",
    "Unexpected",
    "VersionRows",
    "parse_destroy_size",
    "parse_packed_sizes",
    "parse_resume_token",
    "parse_send_size",
    "parse_zfs_version",
]

MAX_ROW_BYTES = 64 * 1024
"""Longest row taken: a property's value has at most 8 KiB (`ZAP_MAXVALUELEN`), a name 255 bytes."""

_UINT64 = re.compile(r"[0-9]{1,20}", re.ASCII)
_SNAPSHOT, _BOOKMARK = VersionKind
_REMEMBERED = 1 << 16


class Unexpected(ValueError):
    """The output is not what zfs prints; the message quotes the row."""


class Rows(ABC):
    """Bytes in any pieces to rows; a subclass says what a row means."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take output as it comes."""
        self._pending += data
        whole, newline, rest = self._pending.rpartition(b"\n")
        if len(rest) > MAX_ROW_BYTES:
            raise Unexpected(f"a row of more than {MAX_ROW_BYTES} bytes: {bytes(rest[:60])!r}…")
        if newline:
            self.rows(whole.decode("utf-8", "surrogateescape"))
        self._pending = rest

    def rows(self, text: str) -> None:
        """One or more rows, without the last one's newline."""
        for row in text.split("\n"):
            if len(row) > MAX_ROW_BYTES:
                raise Unexpected(f"a row of {len(row)} bytes: {row[:60]!r}…")
            self.row(row)

    def end(self) -> None:
        """The output has ended; raises when it ended inside a row."""
        if self._pending:
            raise Unexpected(f"the output ends inside a row: {bytes(self._pending[:200])!r}")

    @abstractmethod
    def row(self, text: str) -> None:
        """One row, without its newline."""


def _uint64(text: str, row: str) -> int:
    if not _UINT64.fullmatch(text) or (value := int(text)) >= 1 << 64:
        raise Unexpected(f"{text!r} is not a number, in {_quoted(row)}")
    return value


def _path(text: str, row: str) -> DatasetPath:
    try:
        return DatasetPath.parse(text)
    except InvalidName as error:
        raise Unexpected(f"{error}, in {_quoted(row)}") from None


def _quoted(row: str) -> str:
    return repr(row if len(row) <= 300 else row[:300] + "…")


class PropertyRows(Rows):
    """`name,property,value,source` rows: the properties of each dataset, in order."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = frozenset(names)
        self.datasets: dict[str, dict[str, Property]] = {}

    def row(self, text: str) -> None:
        name, sep, rest = text.partition("\t")
        prop, sep2, rest = rest.partition("\t")
        value, sep3, source = rest.rpartition("\t")
        if not (sep and sep2 and sep3) or prop not in self._names:
            raise Unexpected(f"not a row of name, property, value, source: {_quoted(text)}")
        try:
            kind = PropertySource(source.split(" ", 1)[0])
        except ValueError:
            raise Unexpected(f"unknown source {source!r}, in {_quoted(text)}") from None
        found = self.datasets.setdefault(name, {})
        if prop in found:
            # A value with a newline in it could otherwise pose as another dataset's row.
            raise Unexpected(f"{prop} of {name} is listed twice")
        found[prop] = Property(value, kind)

    def of(self, path: str) -> dict[str, Property]:
        """The properties of one dataset, in the order asked for."""
        return self.datasets.get(path, {})


class DatasetRows(PropertyRows):
    """A listing of datasets by `DATASET_PROPERTIES`."""

    def __init__(self) -> None:
        super().__init__(DATASET_PROPERTIES)

    def result(self) -> list[Dataset]:
        """The datasets in zfs's order, which has parents first."""
        return [self._dataset(name, found) for name, found in self.datasets.items()]

    @staticmethod
    def _dataset(name: str, found: dict[str, Property]) -> Dataset:
        _check_whole(name, found, DATASET_PROPERTIES)
        kind = found["type"].value
        if kind not in {"filesystem", "volume"}:
            raise Unexpected(f"{name} is of type {kind!r}, neither filesystem nor volume")
        token = found["receive_resume_token"].value
        mark, origin = found[PLACEHOLDER], found[SOURCE_GUID]
        return Dataset(
            path=_path(name, name),
            guid=_uint64(found["guid"].value, name),
            is_volume=kind == "volume",
            is_placeholder=is_placeholder(name, mark.value, mark.source),
            placeholder_value=mark.value if mark.source is PropertySource.LOCAL else "",
            resume_token=None if token in {"-", ""} else token,
            source_guid=source_guid(origin),
            encrypted=_encrypted(found),
            written=_uint64(found["written"].value, name),
        )


class BriefRows(PropertyRows):
    """A listing of datasets by `BRIEF_PROPERTIES`."""

    def __init__(self) -> None:
        super().__init__(BRIEF_PROPERTIES)

    def result(self) -> list[DatasetBrief]:
        """The datasets in zfs's order, which has parents first."""
        return [self._brief(name, found) for name, found in self.datasets.items()]

    @staticmethod
    def _brief(name: str, found: dict[str, Property]) -> DatasetBrief:
        _check_whole(name, found, BRIEF_PROPERTIES)
        mark = found[PLACEHOLDER]
        return DatasetBrief(
            path=_path(name, name),
            guid=_uint64(found["guid"].value, name),
            is_placeholder=is_placeholder(name, mark.value, mark.source),
            encrypted=_encrypted(found),
        )


def _check_whole(name: str, found: Mapping[str, Property], wanted: Sequence[str]) -> None:
    missing = [prop for prop in wanted if prop not in found]
    if missing:
        raise Unexpected(f"{name} lacks {', '.join(missing)}")


def _encrypted(found: Mapping[str, Property]) -> bool:
    return found["encryption"].value not in {"off", "-"}


def source_guid(noted: Property) -> int | None:
    """The guid that our receiver noted on this very dataset; None for anything else.

    Our own note is always local: an inherited one is the parent's, and a received one came with
    the peer's stream.
    """
    if noted.source is not PropertySource.LOCAL or not _UINT64.fullmatch(noted.value):
        return None
    return int(noted.value)


_VERSION_ROWS = re.compile(
    r"^([^\t\n@#]+)([@#])([-_.: 0-9A-Za-z]{1,255})"
    r"\t([0-9]{1,20})\t([0-9]{1,19})\t([0-9]{1,19})\t([0-9]{1,9}|-)$",
    re.MULTILINE | re.ASCII,
)


class _Numbers(dict[str, int]):
    """Text to number; bounded, since each may be another one."""

    def __missing__(self, text: str) -> int:
        if len(self) >= _REMEMBERED:
            self.clear()
        number = self[text] = int(text)
        return number


class _Names(dict[str, str]):
    """Text to the same name, checked; bounded likewise."""

    def __missing__(self, text: str) -> str:
        if len(self) >= _REMEMBERED:
            self.clear()
        try:
            name = self[text] = check_snapshot_name(text)
        except InvalidName as error:
            raise Unexpected(str(error)) from None
        return name


class VersionRows(Rows):
    """`VERSION_COLUMNS` rows: the snapshots and bookmarks of each dataset.

    There may be millions: rows of the usual look are taken apart all at once, and only where one has
    another look, each by itself. Equal numbers are mostly one object, as equal names are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[DatasetPath, list[FilesystemVersion]] = {}
        # A dataset's rows need not be together, but it is checked once.
        self._of_name: dict[str, list[FilesystemVersion]] = {}
        self._numbers = _Numbers()
        self._names = _Names()

    def rows(self, text: str) -> None:
        found = _VERSION_ROWS.findall(text)
        if len(found) != text.count("\n") + 1 or len(text) > MAX_ROW_BYTES * len(found):
            super().rows(text)
            return
        names, numbers, last, versions = self._names, self._numbers, None, []
        for path, sign, name, guid, createtxg, creation, userrefs in found:
            if path != last:
                last, versions = path, self._versions_of(path, path)
            if (sign == "@") == (userrefs == "-"):
                raise Unexpected(f"userrefs {userrefs!r} of {_quoted(path + sign + name)}")
            versions.append(
                FilesystemVersion(
                    kind=_SNAPSHOT if sign == "@" else _BOOKMARK,
                    name=names[name],
                    guid=int(guid) if len(guid) < 20 else _uint64(guid, path),
                    createtxg=numbers[createtxg],
                    creation=numbers[creation],
                    userrefs=None if userrefs == "-" else numbers[userrefs],
                )
            )

    def _versions_of(self, path: str, row: str) -> list[FilesystemVersion]:
        versions = self._of_name.get(path)
        if versions is None:
            versions = self.datasets.setdefault(_path(path, row), [])
            self._of_name[path] = versions
        return versions

    def row(self, text: str) -> None:
        fields = text.split("\t")
        if len(fields) != 5:
            raise Unexpected(f"not a row of 5 columns: {_quoted(text)}")
        full, guid, createtxg, creation, userrefs = fields
        at = max(full.rfind("@"), full.rfind("#"))
        if at < 0:
            raise Unexpected(f"neither snapshot nor bookmark: {_quoted(text)}")
        version = FilesystemVersion(
            kind=VersionKind(full[at]),
            name=self._names[full[at + 1 :]],
            guid=_uint64(guid, text),
            createtxg=_uint64(createtxg, text),
            creation=_uint64(creation, text),
            userrefs=None if userrefs == "-" else _uint64(userrefs, text),
        )
        if version.is_snapshot == (version.userrefs is None):
            raise Unexpected(f"userrefs {userrefs!r}, in {_quoted(text)}")
        self._versions_of(full[:at], text).append(version)

    def result(self) -> dict[DatasetPath, list[FilesystemVersion]]:
        """Each dataset's versions as `in_order` has them."""
        return {path: in_order(versions) for path, versions in self.datasets.items()}


class HoldRows(Rows):
    """`zfs holds -H` rows of `wanted` snapshots, by their full names."""

    def __init__(self, wanted: Mapping[str, tuple[DatasetPath, str]]) -> None:
        super().__init__()
        self._wanted = wanted
        self._holds: list[Hold] = []

    def row(self, text: str) -> None:
        full, _, rest = text.partition("\t")
        tag, sep, _ = rest.rpartition("\t")
        if full not in self._wanted or not sep or not tag:
            raise Unexpected(f"not a hold on one of the snapshots asked for: {_quoted(text)}")
        self._holds.append(Hold(*self._wanted[full], tag))

    def result(self) -> list[Hold]:
        """The holds in zfs's order."""
        return self._holds


# `size` is the sum line; before it zfs prints one line a snapshot, whose number may be absent.
_SIZE = re.compile(r"^size\t(\d+)$", re.MULTILINE)
_STEP_SIZE = re.compile(
    r"^(?:full\t[^\t\n]+@[^\t\n]+|incremental\t[^\t\n]+\t[^\t\n]+@[^\t\n]+)(?:\t(\d+))?$",
    re.MULTILINE,
)
_LARGEST_SIZE = (1 << 63) - 1


def parse_send_size(output: str) -> int | None:
    """The size in `zfs send -nvP`'s output (stdout and stderr together), None when it has none."""
    found = _SIZE.search(output) or _STEP_SIZE.search(output)
    if found is None:
        raise Unexpected(f"no line with the size: {_quoted(output)}")
    size = int(found[1]) if found[1] is not None else 0
    # 0, and sizes that only an underflow in the estimate gives, mean that zfs doesn't know.
    return size if 0 < size <= _LARGEST_SIZE else None


_RECLAIM = re.compile(r"^reclaim\t(\d+)$", re.MULTILINE)


def parse_destroy_size(output: str) -> int:
    """The bytes in `zfs destroy -nvp`'s output."""
    found = _RECLAIM.search(output)
    if found is None:
        raise Unexpected(f"no line with what is reclaimed: {_quoted(output)}")
    return int(found[1])


_PACKED_SIZE = re.compile(r"^incremental\t([^\t\n]*)\t[^@\t\n]+@([^\t\n]+)\t(\d+)$", re.MULTILINE)


def parse_packed_sizes(output: str) -> dict[str, int]:
    """Snapshot to the size of its part, in `zfs send -nvP -I`'s output (stdout and stderr)."""
    return {m[2]: int(m[3]) for m in _PACKED_SIZE.finditer(output) if int(m[3]) <= _LARGEST_SIZE}


_TOKEN_START = re.compile(r"resume token contents:\nnvlist version: 0\n")
_TOKEN_FIELD = re.compile(r"^\t(\S+) = (.*)$", re.MULTILINE)
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})


def parse_resume_token(output: str) -> ResumeToken:
    """The fields in `zfs send -nvt`'s output (stdout and stderr together)."""
    start = _TOKEN_START.search(output)
    if start is None:
        raise Unexpected(f"no contents of a resume token: {_quoted(output)}")
    fields = {m[1]: m[2] for m in _TOKEN_FIELD.finditer(output, start.end())}

    def number(name: str) -> int | None:
        if name not in fields:
            return None
        try:
            return int(fields[name], 0)
        except ValueError:
            raise Unexpected(f"{name} = {fields[name]!r} is not a number") from None

    to_guid = number("toguid")
    if to_guid is None or "toname" not in fields:
        raise Unexpected(f"a resume token without toguid and toname: {_quoted(output)}")
    return ResumeToken(
        to_name=fields["toname"],
        to_guid=to_guid,
        from_guid=number("fromguid"),
        bytes_received=number("bytes"),
        raw_ok=fields.get("rawok") in _TRUE,
        compress_ok=fields.get("compressok") in _TRUE,
        embed_ok=fields.get("embedok") in _TRUE,
        large_block_ok=fields.get("largeblockok") in _TRUE,
        saved_ok=fields.get("savedok") in _TRUE,
    )


def parse_zfs_version(output: str) -> str:
    """The userland version in `zfs version`'s output, "" when it has none (before 0.8)."""
    found = re.search(r"^zfs-(\S+)$", output, re.MULTILINE)
    return found[1] if found else ""
