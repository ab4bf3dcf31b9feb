"""Send and receive streams of `MemoryZfs`: real bytes, made and taken apart as they are moved.

No task and no fd stands behind them: a send is made piece by piece as it is read, and a receive does
its work inside `send_all`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import trio

from zrepl_trio.emulate import refusals, sending, transfer
from zrepl_trio.emulate.model import Dataset, Fault, Snapshot, World
from zrepl_trio.emulate.stream import (
    BadStream,
    Decoder,
    Entry,
    begin_package,
    begin_stream,
    body,
    changes,
    data_record_size,
    decode_entry,
    decode_fields,
    end_package,
    end_stream,
)
from zrepl_trio.errors import ZfsError
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.model import ReceiveArgs, SendArgs

__all__ = [
    "Checkpoint",
    "Files",
    "MemoryReceive",
    "MemorySend",
    "Opened",
    "files_of",
    "outgoing_of",
    "read_file",
    "wanted_changes",
]

Checkpoint = Callable[[], Awaitable[None]]

S = TypeVar("S")

Files = dict[str, bytes]
"""A filesystem's contents: path to data."""


def files_of(content: object) -> Files:
    """A snapshot's or filesystem's content as the dict that it is here."""
    if content is None:
        return {}
    assert isinstance(content, dict)
    return content


def _manifest(content: object) -> dict[str, Entry]:
    return {path: Entry("f", 0o644, 0, len(data), data) for path, data in files_of(content).items()}


def wanted_changes(out: sending.Outgoing) -> list[tuple[str, Entry | None]]:
    """What the stream has to carry."""
    base = _manifest(out.base.content) if out.base is not None else None
    return changes(base, _manifest(out.to.content))


def outgoing_of(world: World, args: SendArgs) -> list[sending.Outgoing]:
    """The streams that such a send makes, one for each snapshot; a Fault in zfs's words."""
    if args.token is not None:
        return [sending.resuming(world, args.token)]
    flags = {
        "rawok": args.flags.raw or args.flags.encrypted,
        "compressok": args.flags.compressed,
        "embedok": args.flags.embedded_data,
        "largeblockok": args.flags.large_blocks,
        "savedok": args.flags.saved,
    }
    to = args.to.full(args.dataset)
    properties = args.flags.properties
    if args.packed and args.from_ is not None:
        source = args.from_.full(args.dataset)
        return sending.packed(world, to, source, flags=flags, properties=properties)
    base = args.from_.full(args.dataset) if args.from_ else None
    return [sending.sending(world, to, base, flags=flags, properties=properties)]


def read_file(_path: str, entry: Entry, position: int, count: int) -> bytes:
    """A file's data, which is the entry's blob here."""
    assert isinstance(entry.blob, bytes)
    return entry.blob[position : position + count]


class Opened(AbstractAsyncContextManager[S]):
    """A stream from its opening to its end. Entered for each step, so it is no generator."""

    __slots__ = ("_end", "_open", "_stream")

    def __init__(self, opening: Callable[[], Awaitable[S]], end: Callable[[S], None]) -> None:
        self._open = opening
        self._end = end

    async def __aenter__(self) -> S:
        self._stream = await self._open()
        return self._stream

    async def __aexit__(self, *_error: object) -> None:
        self._end(self._stream)


class MemorySend(trio.abc.ReceiveStream):
    """A `zfs send`, and its own `reader`."""

    def __init__(
        self,
        outgoing: Callable[[], list[sending.Outgoing]],
        error_of: Callable[[Fault], ZfsError],
        *,
        packed: bool,
        limit: int | None,
        checkpoint: Checkpoint = trio.lowlevel.checkpoint,
    ) -> None:
        self._checkpoint = checkpoint
        self._error_of = error_of
        self._fault: Fault | None = None
        self._pending = b""
        self._left = limit
        self._eof = False
        self._ended = False
        self.snapshots: list[Snapshot] = []
        self._pieces: Iterator[bytes] = iter(())
        # As with the real command, what is wrong shows at finish(); the stream is just empty.
        try:
            streams = outgoing()
        except Fault as fault:
            self._fault = fault
        else:
            self.snapshots = [out.to for out in streams]
            self._pieces = _pieces(streams[0]) if not packed else _package(streams)

    @property
    def reader(self) -> trio.abc.ReceiveStream:
        return self

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await self._checkpoint()
        if self._ended:
            raise trio.ClosedResourceError
        count = max_bytes or 65536
        # a pipe fills up before it is looked at
        while len(self._pending) < count and not self._eof:
            piece = next(self._pieces, None)
            if piece is None:
                self._eof = True
            else:
                self._pending += piece
        data, self._pending = self._pending[:count], self._pending[count:]
        if self._left is not None:
            if len(data) > self._left:
                data = data[: self._left]
                self._eof, self._pending = True, b""
                self._fault = Fault("warning: cannot send: Input/output error")
            self._left -= len(data)
        return data

    async def aclose(self) -> None:
        self._ended = True
        await self._checkpoint()

    async def finish(self) -> None:
        await self._checkpoint()
        if self._fault is None and not (self._eof and not self._pending):
            # Whoever stops reading gets what a killed child would give.
            self._fault = Fault("", -13)
        if self._fault is not None:
            raise self._error_of(self._fault)

    def end(self) -> None:
        """The child is gone."""
        self._ended = True


def _package(streams: list[sending.Outgoing]) -> Iterator[bytes]:
    yield begin_package()
    for out in streams:
        yield from _pieces(out, packed=True)
    yield end_package()


def _pieces(out: sending.Outgoing, *, packed: bool = False) -> Iterator[bytes]:
    yield begin_stream(out.begin, packed=packed)
    length = out.offset
    for piece in body(wanted_changes(out), read_file, offset=length):
        length += len(piece)
        yield piece
    yield end_stream(length)


class MemoryReceive(trio.abc.SendStream):
    """A `zfs recv`, its own `writer`, and the partly received state it leaves."""

    def __init__(
        self,
        world: World,
        args: ReceiveArgs,
        receiving: set[str],
        error_of: Callable[[Fault], ZfsError],
        *,
        checkpoint: Checkpoint = trio.lowlevel.checkpoint,
    ) -> None:
        self._checkpoint = checkpoint
        self._world = world
        self._args = args
        self._receiving = receiving
        self._error_of = error_of
        self._decoder = Decoder()
        self._admission: transfer.Admission | None = None
        self._fault: Fault | None = None
        self.files: Files = {}
        self.open_file: tuple[str, Entry, bytearray] | None = None
        self._complete = False
        self._over = False
        self._closed = False
        self._nothing_came = False
        self._packed = False
        self._ended = False
        self.offset = 0
        self.received = 0

    @property
    def writer(self) -> trio.abc.SendStream:
        return self

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        if self._fault is not None or self._over:
            raise trio.BrokenResourceError
        try:
            for kind, payload in self._decoder.feed(bytes(data)):
                self._take(kind, payload)
        except Fault as fault:
            self._fail(fault)
        except BadStream as problem:
            self._fail(self._stopped(str(problem)))

    async def wait_send_all_might_not_block(self) -> None:
        await self._checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        self._stop()
        await self._checkpoint()

    async def finish(self) -> None:
        self._closed = True
        self._stop()
        await self._checkpoint()
        if self._fault is not None:
            raise self._error_of(self._fault)

    def end(self) -> None:
        """The child is gone; what arrived is kept if it may be."""
        self._closed = True
        self._stop()

    def token(self) -> str:
        """The resume token of what has arrived."""
        assert self._admission is not None
        return sending.resume_token(
            self._admission.begin, offset=self.offset, received=self.received
        )

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == b"B":
            self._begin(decode_fields(payload))
            return
        if kind == b"C" and self._admission is None:
            self._packed = True
            return
        if kind == b"Z" and self._packed and self._complete:
            self._ended = True
            return
        admission = self._admission
        if admission is None or self._complete:
            raise BadStream("record out of place")
        if admission.is_there:
            self._complete = kind == b"E"
            return
        if kind == b"E":
            if self.open_file is not None or decode_fields(payload)["length"] != str(self.offset):
                raise BadStream("checksum mismatch")
            self._finish_stream(admission)
            return
        self._check_room(admission, len(payload))
        if kind == b"D":
            self._data(payload)
        elif self.open_file is not None:
            raise BadStream("file too short")
        elif kind == b"X":
            path = decode_fields(payload)["path"]
            if self.files.pop(path, None) is None:
                raise BadStream(f"no such path {path!r}")
        else:
            path, entry = decode_entry(payload)
            self.open_file = (path, entry, bytearray())
            self._close_file()
        self.offset += data_record_size(len(payload))

    def _begin(self, begin: dict[str, str]) -> None:
        args = self._args
        if self._admission is not None:
            if not (self._packed and self._complete) or self._ended:
                raise BadStream("two begin records")
            self._start_over()
        transfer.check_override(begin, args.override)
        existing = self._world.get(args.dataset)
        kept = existing.partial.content if existing and existing.partial else None
        running = existing is not None and existing.key in self._receiving
        admission = transfer.admit(
            self._world,
            f"{args.dataset}@{_name(begin) if args.packed else args.snapshot}",
            begin,
            force=args.force,
            partial_offset=kept.offset if isinstance(kept, MemoryReceive) and not running else None,
            unchanged_since=_unchanged_since,
        )
        self._admission = admission
        if admission.is_there:
            return
        self._receiving.add(admission.dataset.key)
        if isinstance(kept, MemoryReceive):
            self.files, self.open_file = kept.files, kept.open_file
            self.offset, self.received = kept.offset, kept.received
        elif admission.base is not None:
            self.files = dict(files_of(admission.base.content))
        if admission.created:
            self._apply_properties(admission)
        transfer.keep(admission, resumable=args.resumable)
        assert admission.dataset.partial is not None
        admission.dataset.partial.content = self

    def _start_over(self) -> None:
        """The package's next stream."""
        if not self._args.packed:
            target = argv.receive(self._args)[-1]
            raise Fault(f"cannot restore to {target}: destination already exists")
        self._admission = None
        self.files, self.open_file = {}, None
        self.offset = self.received = 0
        self._complete = False

    def _check_room(self, admission: transfer.Admission, count: int) -> None:
        left, quota_of = self._world.room(admission.dataset.name)
        if count + self.received > left:
            raise refusals.no_room(admission.begin, admission.dataset.name, quota_of)

    def _data(self, payload: bytes) -> None:
        if self.open_file is None:
            raise BadStream("data without a file")
        self.open_file[2].extend(payload)
        self.received += len(payload)
        self._close_file()

    def _close_file(self) -> None:
        assert self.open_file is not None
        path, entry, data = self.open_file
        if len(data) > entry.size:
            raise BadStream("file too long")
        if len(data) == entry.size:
            self.files[path] = bytes(data)
            self.open_file = None

    def _finish_stream(self, admission: transfer.Admission) -> None:
        dataset = admission.dataset
        if not admission.created:
            # an existing dataset's own come back when the receive fails, so they change at its end
            self._apply_properties(admission)
        transfer.complete(self._world, admission, self.files, self.received, force=self._args.force)
        dataset.live = dict(self.files)
        self._receiving.discard(dataset.key)
        self._complete = True

    def _apply_properties(self, admission: transfer.Admission) -> None:
        transfer.apply_properties(
            self._world, admission, exclude=self._args.exclude, override=self._args.override
        )

    def _stop(self) -> None:
        """Stdin has ended, here or by the child's end."""
        if self._over:
            return
        self._over = True
        if self._fault is None and self._packed and self._complete and not self._ended:
            self._fault = Fault("cannot receive: failed to read from stream")
        elif self._fault is None and not self._complete:
            self._fail(self._stopped("incomplete stream"))

    def _stopped(self, reason: str) -> Fault:
        if self._admission is None:
            return Fault(
                f"cannot receive: invalid stream ({reason})"
                if reason != "incomplete stream"
                else "cannot receive: failed to read from stream"
            )
        if not self.offset:
            self._nothing_came = True
            dataset, created = self._admission.dataset.name, self._admission.created
            return refusals.nothing_received(self._admission.begin, dataset, created=created)
        return refusals.incomplete(
            self._admission.begin, reason, self.token() if self._args.resumable else None
        )

    def _fail(self, fault: Fault) -> None:
        self._fault = fault
        admission = self._admission
        if admission is None:
            return
        dataset = admission.dataset
        partial = dataset.partial
        self._receiving.discard(dataset.key)
        if partial is not None and (self._nothing_came or not partial.resumable):
            dataset.partial = None
            if partial.created:
                transfer.drop_created(self._world, dataset)


def _name(begin: Mapping[str, str]) -> str:
    return begin["toname"].partition("@")[2]


def _unchanged_since(dataset: Dataset, snap: Snapshot) -> bool:
    return files_of(dataset.live) == files_of(snap.content)
