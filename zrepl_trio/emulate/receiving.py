"""Receiving on disk: what arrived is always a state to resume from, also after kill -9.

    recv/lock     held by the running receive
    recv/journal  the stream's X and F records, as they came
    recv/d.N      the data of the journal's Nth record

A file's data is written before the next record is journalled, so that only the last file can be
incomplete; how far the body got follows from the sizes alone.
"""

from __future__ import annotations

import fcntl
import os

from zrepl_trio.emulate import mounts, names, refusals, sending, transfer, trees
from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.model import Dataset, World
from zrepl_trio.emulate.stream import (
    CHUNK,
    BadStream,
    Decoder,
    Entry,
    data_record_size,
    decode_entry,
    decode_fields,
    record,
    split_records,
)
from zrepl_trio.emulate.trees import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zrepl_trio.emulate.store import Store

__all__ = ["Incoming", "Progress", "drop", "is_abandoned", "progress", "token"]


class Progress:
    """What a receive has so far; `offset` in the body, `received` bytes of data."""

    __slots__ = ("journal_size", "last", "last_size", "offset", "received", "records")

    def __init__(self) -> None:
        self.offset = 0
        self.received = 0
        self.journal_size = 0
        self.records: list[tuple[str, Entry | None]] = []
        self.last = -1
        """Index of the file that is not complete, -1 when there is none."""
        self.last_size = 0


def _directory(store: Store, dataset: Dataset) -> str:
    return f"{store.data(dataset)}/recv"


def _by_key(world: World, key: str) -> Dataset | None:
    """The dataset with that key, which may have been renamed while it is received into."""
    return next((dataset for dataset in world.all() if dataset.key == key), None)


def progress(store: Store, dataset: Dataset) -> Progress:
    """Read how far a receive got."""
    found = Progress()
    directory = _directory(store, dataset)
    try:
        with open(f"{directory}/journal", "rb") as file:
            journal = file.read()
    except FileNotFoundError:
        return found
    for kind, payload, end in split_records(journal):
        number = len(found.records)
        found.journal_size = end
        found.offset += data_record_size(len(payload))
        if kind == b"X":
            found.records.append((decode_fields(payload)["path"], None))
            continue
        path, entry = decode_entry(payload)
        found.records.append((path, entry))
        try:
            have = min(os.stat(f"{directory}/d.{number}").st_size, entry.size)
        except FileNotFoundError:
            have = 0
        if have < entry.size:
            have -= have % CHUNK
            found.last, found.last_size = number, have
        found.received += have
        found.offset += have + data_record_size(0) * -(-have // CHUNK)
        if found.last >= 0:
            break
    return found


def token(store: Store, dataset: Dataset) -> str | None:
    """The receive_resume_token of a dataset, None when it has none."""
    if dataset.partial is None or not dataset.partial.resumable:
        return None
    so_far = progress(store, dataset)
    return sending.resume_token(
        dataset.partial.begin, offset=so_far.offset, received=so_far.received
    )


def is_running(store: Store, dataset: Dataset) -> bool:
    """Whether a process is receiving into it."""
    try:
        file = os.open(f"{_directory(store, dataset)}/lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def is_abandoned(store: Store, dataset: Dataset) -> bool:
    """Whether a receive without -s was killed."""
    return (
        dataset.partial is not None
        and not dataset.partial.resumable
        and not is_running(store, dataset)
    )


def drop(store: Store, world: World, dataset: Dataset) -> None:
    """Forget partly received state, and the dataset that was made for it."""
    assert dataset.partial is not None
    created = dataset.partial.created
    dataset.partial = None
    trees.remove_tree(_directory(store, dataset))
    if created:
        store.mark("dirty", dataset)
        transfer.drop_created(world, dataset)


class Incoming:
    """One `zfs recv`, from its begin record to its end."""

    def __init__(
        self,
        store: Store,
        target: str,
        *,
        force: bool,
        resumable: bool,
        unmounted: bool,
        exclude: tuple[str, ...],
        override: Mapping[str, str],
    ) -> None:
        self._store = store
        self._target = target
        self._packed = False
        self._ended = False
        self._force = force
        self._resumable = resumable
        self._unmounted = unmounted
        self._exclude = exclude
        self._override = override
        self._decoder = Decoder()
        self._admission: transfer.Admission | None = None
        self._progress = Progress()
        self._journal = -1
        self._data = -1
        self._lock = -1
        self._room = 0
        self._quota_of = ""
        self._directory = ""
        self.complete = False
        self.on_begin: Callable[[dict[str, str], str], None] | None = None

    def feed(self, data: bytes) -> None:
        """Take what came; a Fault ends it, having kept or dropped what was received."""
        try:
            for kind, payload in self._decoder.feed(data):
                self._take(kind, payload)
        except BadStream as problem:
            self._stop(str(problem))

    def end(self) -> None:
        """Stdin has ended."""
        if self._packed and self.complete and not self._ended:
            raise Fault("cannot receive: failed to read from stream")
        if not self.complete:
            self._stop("incomplete stream")

    def _stop(self, reason: str) -> None:
        if self._admission is None:
            raise Fault(
                f"cannot receive: invalid stream ({reason})"
                if reason != "incomplete stream"
                else "cannot receive: failed to read from stream"
            )
        begin = self._admission.begin
        if not self._progress.records and not self._admission.resumes:
            self._keep_or_drop(nothing=True)
            created = self._admission.created
            raise refusals.nothing_received(begin, self._admission.dataset.name, created=created)
        raise refusals.incomplete(begin, reason, self._keep_or_drop())

    def _keep_or_drop(self, *, nothing: bool = False) -> str | None:
        """Let go of what was received; the token, if it is kept. `nothing` came, so that there is
        nothing to keep."""
        assert self._admission is not None
        for fd in (self._journal, self._data, self._lock):
            if fd >= 0:
                os.close(fd)
        # Entering a change drops what is neither resumable nor being received any more.
        with self._store.change() as world:
            dataset = _by_key(world, self._admission.dataset.key)
            if nothing and dataset is not None and dataset.partial is not None:
                drop(self._store, world, dataset)
                return None
            return token(self._store, dataset) if dataset else None

    def _take(self, kind: bytes, payload: bytes) -> None:
        if kind == b"B":
            self._begin(decode_fields(payload))
            return
        if kind == b"C" and self._admission is None:
            self._packed = True
            return
        if kind == b"Z" and self._packed and self.complete:
            self._ended = True
            return
        admission, so_far = self._admission, self._progress
        if admission is None or self.complete:
            raise BadStream("record out of place")
        if admission.is_there:
            self.complete = kind == b"E"
        elif kind == b"E":
            if so_far.last >= 0 or decode_fields(payload)["length"] != str(so_far.offset):
                raise BadStream("checksum mismatch")
            self._finish(admission)
        elif kind == b"D":
            self._take_data(admission, payload)
        elif so_far.last >= 0:
            raise BadStream("file too short")
        else:
            self._take_path(kind, payload)

    def _take_path(self, kind: bytes, payload: bytes) -> None:
        so_far = self._progress
        if kind == b"X":
            item: tuple[str, Entry | None] = (decode_fields(payload)["path"], None)
        else:
            item = decode_entry(payload)
        os.write(self._journal, record(kind, payload))
        entry = item[1]
        if entry is not None and entry.size:
            self._open_data(len(so_far.records), 0)
            so_far.last, so_far.last_size = len(so_far.records), 0
        so_far.records.append(item)
        so_far.offset += data_record_size(len(payload))

    def _open_data(self, number: int, size: int) -> None:
        if self._data >= 0:
            os.close(self._data)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._data = os.open(f"{self._directory}/d.{number}", flags, 0o600)
        os.ftruncate(self._data, size)

    def _take_data(self, admission: transfer.Admission, payload: bytes) -> None:
        so_far = self._progress
        if so_far.last < 0:
            raise BadStream("data without a file")
        entry = so_far.records[so_far.last][1]
        assert entry is not None
        size = so_far.last_size + len(payload)
        if size > entry.size or (size < entry.size and len(payload) != CHUNK):
            raise BadStream("file too long")
        if so_far.received + len(payload) > self._room:
            self._keep_or_drop()
            raise refusals.no_room(admission.begin, admission.dataset.name, self._quota_of)
        view = memoryview(payload)
        while view:
            view = view[os.write(self._data, view) :]
        so_far.last_size = size
        so_far.received += len(payload)
        so_far.offset += data_record_size(len(payload))
        if size == entry.size:
            so_far.last = -1

    def _begin(self, begin: dict[str, str]) -> None:
        if self._admission is not None:
            if not (self._packed and self.complete) or self._ended:
                raise BadStream("two begin records")
            self._start_over()
        transfer.check_override(begin, self._override)
        name, sign, _ = names.split_version(self._target)
        target = self._target
        if not sign:
            target += "@" + names.split_version(begin["toname"])[2]
        store = self._store
        with store.change() as world:
            dataset = world.get(name)
            offset = None
            if dataset and dataset.partial and not is_running(store, dataset):
                offset = progress(store, dataset).offset
            self._room, self._quota_of = world.room(name) if world.pool_of(name) else (0, "")
            admission = transfer.admit(
                world,
                target,
                begin,
                force=self._force,
                partial_offset=offset,
                unchanged_since=lambda dataset, snap: store.unchanged_since(world, dataset, snap),
            )
            if admission.is_there:
                self._admission = admission
                return
            dataset = admission.dataset
            if admission.created:
                self._apply_properties(world, admission)
            store.make_data(dataset)
            self._directory = _directory(store, dataset)
            if not admission.resumes:
                trees.remove_tree(self._directory)
                transfer.keep(admission, resumable=self._resumable)
            self._start(admission)
        if self.on_begin is not None:
            self.on_begin(begin, target)

    def _start_over(self) -> None:
        """The package's next stream."""
        if "@" in self._target:
            raise Fault(f"cannot restore to {self._target}: destination already exists")
        for fd in (self._journal, self._data, self._lock):
            if fd >= 0:
                os.close(fd)
        self._journal = self._data = self._lock = -1
        self._admission = None
        self._progress = Progress()
        self.complete = False

    def _apply_properties(self, world: World, admission: transfer.Admission) -> None:
        transfer.apply_properties(world, admission, exclude=self._exclude, override=self._override)

    def _start(self, admission: transfer.Admission) -> None:
        directory = self._directory
        os.makedirs(directory, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(f"{directory}/lock", flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._progress = progress(self._store, admission.dataset)
        self._journal = os.open(f"{directory}/journal", flags | os.O_APPEND, 0o600)
        os.ftruncate(self._journal, self._progress.journal_size)
        if self._progress.last >= 0:
            self._open_data(self._progress.last, self._progress.last_size)
        self._admission = admission

    def _finish(self, begun: transfer.Admission) -> None:
        """Make a snapshot of what arrived; the dataset may have changed meanwhile."""
        store = self._store
        with store.change() as world:
            dataset = _by_key(world, begun.dataset.key)
            if dataset is None or dataset.partial is None:
                raise Fault(f"cannot receive {begun.kind} stream: dataset does not exist")
            base = dataset.snapshots.get(begun.base.name) if begun.base is not None else None
            changed = base is None or not store.unchanged_since(world, dataset, base)
            if begun.base is not None and (base is None or (changed and not self._force)):
                raise refusals.diverged(begun.begin, dataset.name)
            admission = transfer.Admission(
                dataset, begun.snapshot, begun.begin, base, created=begun.created
            )
            store.mark("dirty", dataset)
            old = store.manifest(dataset, base)
            manifest = self._manifest(dataset, old)
            name = f"m.{int(begun.begin['toguid']):016x}"
            store.write_manifest(dataset, name, manifest)
            received = self._progress.received
            if not begun.created:
                # an existing dataset's own come back when the receive fails, so they change here
                self._apply_properties(world, admission)
            transfer.complete(world, admission, name, received, force=self._force)
            if dataset.mounted or dataset.is_volume:
                self._refresh(dataset, None if changed else old)
            elif isinstance(dataset.live, str):
                trees.remove_tree(dataset.live)
                dataset.live = None
            if not self._unmounted and not dataset.mounted and mounts.can_mount(world, dataset):
                mounts.mount(store, world, dataset)
            trees.remove_tree(self._directory)
        self.complete = True

    def _refresh(self, dataset: Dataset, old: Manifest | None) -> None:
        if dataset.is_volume and not isinstance(dataset.live, str):
            mounts.make_volume(self._store, dataset, int(self._admission_volsize()))
        self._store.refresh_live(dataset, old)

    def _admission_volsize(self) -> str:
        assert self._admission is not None
        return self._admission.begin.get("volsize", "0")

    def _manifest(self, dataset: Dataset, old: Manifest) -> Manifest:
        assert self._admission is not None
        manifest = Manifest()
        manifest.entries.update(old.entries)
        guid = int(self._admission.begin["toguid"])
        blobs = self._store.blobs(dataset)
        for number, (path, entry) in enumerate(self._progress.records):
            if entry is None:
                manifest.entries.pop(path, None)
                continue
            if entry.kind == "f":
                entry.blob = f"{guid:016x}.{number}"
                if not entry.size:
                    self._open_data(number, 0)
                os.rename(f"{self._directory}/d.{number}", f"{blobs}/{entry.blob}")
            manifest.entries[path] = entry
        return manifest
