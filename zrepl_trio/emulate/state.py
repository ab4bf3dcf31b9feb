"""A pool's metadata to bytes and back.

`marshal`, pinned to version 2 (the same in every supported Python), since `json` would cost a command
as much time as starting the interpreter.
"""

from __future__ import annotations

import marshal

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Bookmark, Dataset, Partial, Pool, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["decode_pool", "dumps", "encode_pool", "loads"]

_FORMAT = "emulated pool 1"


def dumps(value: object) -> bytes:
    """Plain values to bytes."""
    return marshal.dumps(value, 2)  # type: ignore[arg-type]  # only plain values come here


def loads(data: bytes) -> Any:  # a tree of plain values, taken apart by who wrote it
    """The values of `dumps`; only for files of our own."""
    return marshal.loads(data)  # noqa: S302 - as trusted as the program's own bytecode files


def encode_pool(pool: Pool) -> bytes:
    """All of a pool."""
    return dumps(
        (
            _FORMAT,
            (pool.name, pool.guid, pool.creation, pool.capacity, pool.root_mountpoint, pool.txg),
            [_dataset_out(dataset) for dataset in pool.datasets.values()],
        )
    )


def decode_pool(data: bytes, path: str) -> Pool:
    """The pool; a Fault that names `path` when it is not one of ours."""
    try:
        form, head, datasets = loads(data)
    except (ValueError, EOFError, TypeError) as error:
        raise Fault(f"{path}: not a pool of this emulation: {error}") from error
    if form != _FORMAT:
        raise Fault(f"{path}: a pool of another version of this emulation")
    name, guid, creation, capacity, root_mountpoint, txg = head
    pool = Pool(name, guid, creation, capacity=capacity, root_mountpoint=root_mountpoint)
    pool.txg = txg
    for row in datasets:
        dataset = _dataset_in(row)
        pool.datasets[dataset.name] = dataset
    return pool


def _dataset_out(dataset: Dataset) -> tuple[object, ...]:
    partial = dataset.partial
    return (
        dataset.name,
        dataset.guid,
        dataset.createtxg,
        dataset.creation,
        dataset.is_volume,
        dict(dataset.local),
        dict(dataset.received),
        [
            (s.name, s.guid, s.createtxg, s.creation, s.holds, s.props, s.content, s.size)
            for s in dataset.snapshots.values()
        ],
        [(b.name, b.guid, b.createtxg, b.creation, b.content) for b in dataset.bookmarks.values()],
        None
        if partial is None
        else (partial.begin, partial.snapshot, partial.resumable, partial.created),
        dataset.live,
        dataset.head,
        dataset.mounted,
        dataset.size,
        dataset.key,
    )


def _dataset_in(row: tuple[Any, ...]) -> Dataset:
    (name, guid, createtxg, creation, is_volume, local, received, snaps, marks, *rest) = row
    partial, live, head, mounted, size, key = rest
    dataset = Dataset(name, guid, createtxg, creation, is_volume=is_volume)
    dataset.local, dataset.received = local, received
    for short, own_guid, txg, made, holds, props, content, bytes_ in snaps:
        snap = Snapshot(short, own_guid, txg, made, content)
        snap.holds, snap.props, snap.size = holds, props, bytes_
        dataset.snapshots[short] = snap
    for short, *fields in marks:
        dataset.bookmarks[short] = Bookmark(short, *fields)
    if partial is not None:
        begin, snapshot, resumable, created = partial
        dataset.partial = Partial(begin, snapshot, resumable=resumable, created=created)
    dataset.live, dataset.head, dataset.mounted = live, head, mounted
    dataset.size, dataset.key = size, key
    return dataset
