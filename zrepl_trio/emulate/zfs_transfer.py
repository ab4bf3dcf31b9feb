"""The emulated `zfs send` and `zfs receive`, and `zfs holds`."""

from __future__ import annotations

import fcntl
import os
import time

from zrepl_trio.emulate import names, receiving, sending
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.options import parse, properties
from zrepl_trio.emulate.properties import is_user, known
from zrepl_trio.emulate.show import find, human_size, table
from zrepl_trio.emulate.stream import (
    Entry,
    begin_package,
    begin_stream,
    body,
    body_size,
    changes,
    decode_token,
    end_package,
    end_stream,
)
from zrepl_trio.emulate.usage import usage_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zrepl_trio.emulate.options import Options
    from zrepl_trio.emulate.store import Store

__all__ = ["COMMANDS", "write_all"]

_READ_BYTES = 1 << 20
_FLAG_WORDS = {"w": "rawok", "c": "compressok", "e": "embedok"}
"""Options that a resume token remembers; -L it does only where there are large blocks."""


def write_all(fd: int, data: bytes) -> None:
    """Write it whole."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class _Blobs:
    """Reads files' data; the open file is kept for the next piece."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._name: object = None
        self._fd = -1

    def read(self, _path: str, entry: Entry, position: int, count: int) -> bytes:
        if entry.blob != self._name:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = os.open(f"{self._directory}/{entry.blob}", os.O_RDONLY | os.O_CLOEXEC)
            self._name = entry.blob
        data = os.pread(self._fd, count, position)
        if len(data) != count:
            raise Fault(f"warning: cannot send: {self._directory}/{entry.blob} is too short")
        return data


def send(store: Store, words: list[str]) -> None:
    options = parse("send", words, flags="LPbcehnpvwVD", with_value="iIt", unsupported="RSsX")
    token = options.last("t")
    if token is not None and options.words:
        raise usage_error("send", "too many arguments")
    if token is None and not options.words:
        raise usage_error("send", "missing snapshot argument")
    if len(options.words) > 1:
        raise usage_error("send", "too many arguments")
    dry = "n" in options.flags
    if not dry and os.isatty(1):
        raise Fault(
            "Error: Stream can not be written to a terminal.\nYou must redirect standard output.",
        )
    if token is not None and dry and "v" in options.flags:
        write_all(1, _token_contents(token).encode())
    if "I" in options.values and token is None:
        _send_package(store, options, dry=dry)
        return
    with store.reading() as world:
        if token is not None:
            out = sending.resuming(world, token)
        else:
            target = options.words[0]
            _check_sendable(target, dry=dry)
            source = options.last("i")
            try:
                out = sending.sending(
                    world, target, source, flags=_flags(options), properties="p" in options.flags
                )
            except Fault as fault:
                raise _as_dry_run(fault, source) if dry else fault from None
        # Held until we end, also by kill -9, so that the snapshot can't be destroyed meanwhile.
        _lock(store, out)
        wanted = _wanted(store, out)
    size = max(body_size(wanted) - out.offset, 0) + len(begin_stream(out.begin))
    if "v" in options.flags:
        write_all(1 if dry else 2, _estimate(out, options, size).encode())
    if dry:
        return
    write_all(1, begin_stream(out.begin))
    _write_rest(store, out, wanted)


def _flags(options: Options) -> dict[str, bool]:
    return {word: letter in options.flags for letter, word in _FLAG_WORDS.items()}


def _lock(store: Store, out: sending.Outgoing) -> int:
    lock = os.open(store.manifest_path(out.dataset, out.to), os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _wanted(store: Store, out: sending.Outgoing) -> list[tuple[str, Entry | None]]:
    old = store.manifest(out.dataset, out.base).entries if out.base is not None else None
    return changes(old, store.manifest(out.dataset, out.to).entries)


def _write_rest(
    store: Store, out: sending.Outgoing, wanted: list[tuple[str, Entry | None]]
) -> None:
    for piece in body(wanted, _Blobs(store.blobs(out.dataset)).read, offset=out.offset):
        write_all(1, piece)
    write_all(1, end_stream(body_size(wanted)))


def _send_package(store: Store, options: Options, *, dry: bool) -> None:
    """`zfs send -I`. zfs holds all snapshots of it until it ends; here, each while it is sent."""
    target, source = options.words[0], options.last("I")
    assert source is not None
    _check_sendable(target, dry=dry)
    with store.reading() as world:
        streams = sending.packed(
            world, target, source, flags=_flags(options), properties="p" in options.flags
        )
    if "v" in options.flags:
        sizes = [body_size(_wanted(store, out)) + len(begin_stream(out.begin)) for out in streams]
        lines = "".join(map(_packed_estimate, streams, sizes))
        write_all(1 if dry else 2, f"{lines}size\t{sum(sizes)}\n".encode())
    if dry:
        return
    write_all(1, begin_package())
    for out in streams:
        lock = _lock(store, out)
        wanted = _wanted(store, out)
        write_all(1, begin_stream(out.begin, packed=True))
        _write_rest(store, out, wanted)
        os.close(lock)
    write_all(1, end_package())


def _packed_estimate(out: sending.Outgoing, size: int) -> str:
    assert out.base is not None
    return f"incremental\t{out.base.name}\t{out.dataset.name}@{out.to.name}\t{size}\n"


def _as_dry_run(fault: Fault, source: str | None) -> Fault:
    """A dry run asks the kernel about a bookmark, and prints the bare errno."""
    if source is None or "#" not in source:
        return fault
    text = fault.text.replace(f"incremental source ({source}) does not exist", "No such process")
    return Fault(
        text.replace("not an earlier snapshot from the same fs", "Invalid cross-device link")
    )


def _check_sendable(target: str, *, dry: bool) -> None:
    sign = names.split_version(target)[1]
    if sign == "#":
        raise Fault(f"cannot open '{target}': bookmark delimiter '#' is not expected here")
    if sign == "":
        busy = "target is busy; if a filesystem, it must not be mounted"
        raise Fault(f"warning: cannot send '{target}': {'Invalid argument' if dry else busy}")
    names.check_version(target, f"cannot open '{target}'")


def _token_contents(token: str) -> str:
    fields = decode_token(token)
    lines = ["resume token contents:", "nvlist version: 0"]
    numbers = ("fromguid", "object", "offset", "bytes", "toguid")
    lines += [f"\t{key} = {int(fields[key], 0):#x}" for key in numbers if key in fields]
    lines.append(f"\ttoname = {fields['toname']}")
    lines += [f"\t{key} = 1" for key in ("embedok", "compressok", "rawok") if key in fields]
    return "\n".join(lines) + "\n"


def _estimate(out: sending.Outgoing, options: Options, size: int) -> str:
    target = f"{out.dataset.name}@{out.to.name}"
    source = options.last("i") or ""
    if out.base is not None:
        sign = "@" if out.base in out.dataset.snapshots.values() else "#"
        source = f"{out.dataset.name}{sign}{out.base.name}"
    if "P" in options.flags:
        first = f"incremental\t{source}\t{target}" if source else f"full\t{target}"
        return f"{first}\t{size}\nsize\t{size}\n"
    first = f"send from {source} to {target}" if source else f"full send of {target}"
    return (
        f"{first} estimated size is {human_size(size)}\n"
        f"total estimated size is {human_size(size)}\n"
    )


def receive(store: Store, words: list[str]) -> str:
    options = parse("receive", words, flags="sFuvA", with_value="ox", unsupported="Mnhde")
    if not options.words:
        raise usage_error("receive", "missing snapshot argument")
    if len(options.words) > 1:
        raise usage_error("receive", "too many arguments")
    target = options.words[0]
    if "A" in options.flags:
        _abort(store, target)
        return ""
    override = _overrides(options)
    started = time.monotonic()
    incoming = receiving.Incoming(
        store,
        target,
        force="F" in options.flags,
        resumable="s" in options.flags,
        unmounted="u" in options.flags,
        exclude=tuple(options.values.get("x", ())),
        override=override,
    )
    if "v" in options.flags:
        incoming.on_begin = lambda begin, name: write_all(
            1, f"receiving {_what(begin)} stream of {begin['toname']} into {name}\n".encode()
        )
    total = 0
    while data := os.read(0, _READ_BYTES):
        total += len(data)
        incoming.feed(data)
    incoming.end()
    if "v" not in options.flags:
        return ""
    seconds = max(time.monotonic() - started, 0.01)
    rate = human_size(int(total / seconds))
    return f"received {human_size(total)} stream in {seconds:.2f} seconds ({rate}/sec)\n"


def _what(begin: Mapping[str, str]) -> str:
    return "incremental" if "fromguid" in begin else "full"


def _overrides(options: Options) -> dict[str, str]:
    excluded = options.values.get("x", [])
    given = [assignment.partition("=")[0] for assignment in options.values.get("o", [])]
    for number, prop in enumerate([*excluded, *given]):
        if prop in [*excluded, *given][:number]:
            raise usage_error("receive", f"property '{prop}' specified multiple times")
        if not known(prop):
            raise Fault(f"cannot receive: cannot receive: invalid property '{prop}'")
    override = properties("receive", options.values.get("o", []))
    if not all(is_user(prop) or prop != "encryption" for prop in override):
        raise Fault("the emulated zfs has no '-o encryption=' of 'receive'", 2)
    return override


def _abort(store: Store, target: str) -> None:
    with store.change() as world:
        dataset = world.get(target)
        if dataset is None:
            raise usage_error("receive", f"cannot open '{target}': dataset does not exist")
        if dataset.partial is None:
            raise Fault(f"'{target}' does not have any resumable receive state to abort")
        if receiving.is_running(store, dataset):
            raise Fault(f"cannot destroy '{target}': dataset is busy")
        receiving.drop(store, world, dataset)


def holds(store: Store, words: list[str]) -> str:
    options = parse("holds", words, flags="Hp", unsupported="r")
    if not options.words:
        raise usage_error("holds")
    world = store.load()
    complaints: list[str] = []
    rows: list[list[str]] = []
    for word in options.words:
        if names.split_version(word)[1] != "@":
            complaints.append(f"'{word}' is not a snapshot")
            continue
        try:
            dataset, _ = find(world, word)
        except Fault as fault:
            complaints.append(fault.text)
            continue
        snap = dataset.snapshots[names.split_version(word)[2]]
        for tag, when in sorted(snap.holds.items()):
            date = time.strftime("%a %b %e %H:%M %Y", time.localtime(when))
            rows.append([word, tag, str(when) if "p" in options.flags else date])
    if "H" in options.flags:
        write_all(1, "".join("\t".join(row) + "\n" for row in rows).encode())
    elif rows:
        write_all(1, table([["NAME", "TAG", "TIMESTAMP"], *rows]).encode())
    if complaints:
        raise Fault("\n".join([*complaints, *([] if rows else ["no datasets available"])]))
    return ""


COMMANDS: dict[str, Callable[[Store, list[str]], str | None]] = {
    "send": send,
    "receive": receive,
    "recv": receive,
    "holds": holds,
}
