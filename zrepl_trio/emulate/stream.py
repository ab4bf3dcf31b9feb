r"""The emulation's send stream: records with a checksum each, cut anywhere and resumed.

    stream = MAGIC record*
    record = type (1 byte) length (4 bytes) crc32 (4 bytes) payload

    B  begin: what is sent, and `offset`, where in the body this stream sets in
    X  a path that is gone          F  a path that is new or changed; its D records follow
    D  a piece of that file's data  E  end: the body's length

A *package* (`zfs send -I`) is MAGIC, a C record, a B to E for each snapshot, and a Z record.

The *body* is the X, F and D records. It depends on nothing but the two snapshots and their data,
so a position in it (always between two records) is all that resuming needs. B and E payloads
and those of X and F are `key=value` lines, `\`, newline and CR escaped.
"""

from __future__ import annotations

from binascii import crc32, hexlify, unhexlify
from struct import Struct

from zrepl_trio.emulate.fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "CHUNK",
    "MAGIC",
    "BadStream",
    "Decoder",
    "Entry",
    "begin_package",
    "begin_stream",
    "body",
    "body_size",
    "changes",
    "data_record_size",
    "decode_entry",
    "decode_fields",
    "decode_token",
    "encode_fields",
    "encode_token",
    "end_package",
    "end_stream",
    "record",
    "split_records",
]

MAGIC = b"emulated zfs stream 1\n"
CHUNK = 256 * 1024
"""Size of a D record's data, but for the last of a file."""
_MAX_PAYLOAD = 1 << 20
_HEADER = Struct(">cII")


class BadStream(Exception):
    """The bytes are not a stream of ours, or were damaged."""


class Entry:
    """One path of a snapshot; `blob` stands for a file's data, whatever the holder uses.

    `kind` is f, d or l (symlink, `target`); `size` counts a file's bytes.
    """

    __slots__ = ("blob", "kind", "mode", "mtime", "size", "target")

    def __init__(
        self, kind: str, mode: int, mtime: int, size: int, blob: object = None, target: str = ""
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.mtime = mtime
        self.size = size
        self.blob = blob
        self.target = target

    def same(self, other: Entry) -> bool:
        """Whether nothing about it changed."""
        return (
            self.kind == other.kind
            and self.mode == other.mode
            and (self.mtime == other.mtime or self.kind == "d")
            and self.size == other.size
            and self.blob == other.blob
            and self.target == other.target
        )


def encode_fields(fields: Mapping[str, str]) -> bytes:
    """`key=value` lines."""
    lines = [f"{key}={value}" for key, value in fields.items()]
    for number, line in enumerate(lines):
        if "\\" in line or "\n" in line or "\r" in line:
            escaped = line.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
            lines[number] = escaped
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def decode_fields(payload: bytes) -> dict[str, str]:
    """The fields of `encode_fields`."""
    fields = {}
    for line in payload.decode("utf-8", "surrogateescape").split("\n"):
        if not line:
            continue
        plain = line
        if "\\" in line:
            parts = line.split("\\\\")
            plain = "\\".join(p.replace("\\n", "\n").replace("\\r", "\r") for p in parts)
        key, sep, value = plain.partition("=")
        if not sep:
            raise BadStream(f"field without a value: {key!r}")
        fields[key] = value
    return fields


def record(kind: bytes, payload: bytes) -> bytes:
    """One whole record."""
    return _HEADER.pack(kind, len(payload), crc32(payload)) + payload


def begin_stream(fields: Mapping[str, str], *, packed: bool = False) -> bytes:
    """Magic and begin record; the magic of a stream in a package is the package's."""
    return (b"" if packed else MAGIC) + record(b"B", encode_fields(fields))


def begin_package() -> bytes:
    """What comes before the streams of several snapshots."""
    return MAGIC + record(b"C", b"")


def end_package() -> bytes:
    """What comes behind them."""
    return record(b"Z", b"")


def end_stream(length: int) -> bytes:
    """The end record of a body of that length."""
    return record(b"E", encode_fields({"length": str(length)}))


def changes(
    old: Mapping[str, Entry] | None, new: Mapping[str, Entry]
) -> list[tuple[str, Entry | None]]:
    """What turns `old` into `new`: paths that are gone (deepest first), then new and changed."""
    base = old or {}
    gone: list[tuple[str, Entry | None]] = [
        (path, None)
        for path in sorted(base, reverse=True)
        if path not in new or new[path].kind != base[path].kind
    ]
    made: list[tuple[str, Entry | None]] = [
        (path, new[path])
        for path in sorted(new)
        if path not in base or not new[path].same(base[path])
    ]
    return gone + made


def _entry_payload(path: str, entry: Entry) -> bytes:
    fields = {
        "path": path,
        "kind": entry.kind,
        "mode": f"{entry.mode:o}",
        "mtime": str(entry.mtime),
        "size": str(entry.size),
    }
    if entry.target:
        fields["target"] = entry.target
    return encode_fields(fields)


def decode_entry(payload: bytes) -> tuple[str, Entry]:
    """An F record's path and entry, without data; BadStream when it makes no sense."""
    fields = decode_fields(payload)
    try:
        path, kind = fields["path"], fields["kind"]
        entry = Entry(
            kind,
            int(fields["mode"], 8) & 0o7777,
            int(fields["mtime"]),
            int(fields["size"]),
            target=fields.get("target", ""),
        )
    except (KeyError, ValueError) as error:
        raise BadStream(f"bad file record: {error}") from error
    if kind not in {"f", "d", "l"} or entry.size < 0 or (entry.size and kind != "f"):
        raise BadStream(f"bad file record for {path!r}")
    check_path(path)
    return path, entry


def check_path(path: str) -> None:
    """BadStream unless the path stays inside its dataset."""
    if not path or "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise BadStream(f"bad path {path!r}")


def body_size(wanted: list[tuple[str, Entry | None]]) -> int:
    """Length of the body of those changes, reading no data."""
    total = 0
    for path, entry in wanted:
        if entry is None:
            total += _HEADER.size + len(encode_fields({"path": path}))
        else:
            total += _HEADER.size + len(_entry_payload(path, entry))
            total += entry.size + _HEADER.size * -(-entry.size // CHUNK)
    return total


def body(
    wanted: list[tuple[str, Entry | None]],
    read: Callable[[str, Entry, int, int], bytes],
    *,
    offset: int = 0,
) -> Iterator[bytes]:
    """The body from `offset` on; `read(path, entry, position, count)` gives a file's data.

    BadStream when `offset` is no record boundary.
    """
    at = 0
    for path, entry in wanted:
        head = (
            record(b"X", encode_fields({"path": path}))
            if entry is None
            else record(b"F", _entry_payload(path, entry))
        )
        if at >= offset:
            yield head
        elif at + len(head) > offset:
            raise BadStream(f"offset {offset} is inside a record")
        at += len(head)
        if entry is None:
            continue
        # Skipped data is counted, never read.
        position = 0
        while position < entry.size:
            count = min(CHUNK, entry.size - position)
            if at >= offset:
                yield record(b"D", read(path, entry, position, count))
            elif at + _HEADER.size + count > offset:
                raise BadStream(f"offset {offset} is inside a record")
            at += _HEADER.size + count
            position += count
    if at < offset:
        raise BadStream(f"offset {offset} is past the end")


def data_record_size(count: int) -> int:
    """What a D record with that much data adds to the body."""
    return _HEADER.size + count


def split_records(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(type, payload, end) of the whole and undamaged records at the start of `data`."""
    at = 0
    while len(data) - at >= _HEADER.size:
        kind, length, checksum = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        payload = data[at + _HEADER.size : end]
        if end > len(data) or crc32(payload) != checksum:
            return
        yield kind, payload, end
        at = end


class Decoder:
    """Bytes in any pieces to records."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take bytes; the (type, payload) records that are now whole."""
        buffer = self._buffer
        buffer += data
        if not self._started:
            if not MAGIC.startswith(bytes(buffer[: len(MAGIC)])):
                raise BadStream("bad magic number")
            if len(buffer) < len(MAGIC):
                return []
            del buffer[: len(MAGIC)]
            self._started = True
        found = []
        at = 0
        while len(buffer) - at >= _HEADER.size:
            kind, length, checksum = _HEADER.unpack_from(buffer, at)
            if kind not in b"BCDEFXZ" or length > _MAX_PAYLOAD:
                raise BadStream("bad record header")
            if len(buffer) - at < _HEADER.size + length:
                break
            payload = bytes(buffer[at + _HEADER.size : at + _HEADER.size + length])
            if crc32(payload) != checksum:
                raise BadStream("checksum mismatch")
            found.append((kind, payload))
            at += _HEADER.size + length
        del buffer[:at]
        return found

    @property
    def started(self) -> bool:
        """Whether the magic was seen."""
        return self._started


def encode_token(fields: Mapping[str, str]) -> str:
    """A receive_resume_token: version, checksum, length and text in hex."""
    text = encode_fields(fields)
    return f"1-{crc32(text):x}-{len(text):x}-{hexlify(text).decode()}"


def decode_token(token: str) -> dict[str, str]:
    """Its fields; a Fault in zfs's words when it is corrupt."""
    parts = token.split("-")
    problem = "invalid format"
    if len(parts) == 4 and parts[0] == "1":
        try:
            text = unhexlify(parts[3])
            if len(text) == int(parts[2], 16) and crc32(text) == int(parts[1], 16):
                return decode_fields(text)
            problem = "incorrect checksum"
        except (ValueError, BadStream):
            pass
    raise Fault(f"cannot resume send: resume token is corrupt ({problem})", 255)
