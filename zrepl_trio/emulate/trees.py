"""Directory trees: what is in one, copying one into blobs, and making one of a manifest.

Copies share blocks where the file system can (reflink), and never share a file: programs change
files in place, and a snapshot must not change with them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.stream import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Manifest", "copy_file", "freeze", "is_modified", "make_tree", "remove_tree", "scan"]

_FICLONE = 0x40049409
_COPY_BYTES = 1 << 24
_RACY_NS = 50_000_000
"""A file changed this recently may change again without a new ctime: clocks tick every 1 to 10 ms."""


class Manifest:
    """A snapshot's paths. `stats` has a file's (inode, ctime) when its blob was made; a file that
    still has them was not changed since."""

    __slots__ = ("entries", "stats")

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.stats: dict[str, tuple[int, int]] = {}


def _walk(
    root: str, skip: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, os.stat_result]]:
    """Relative paths below `root` and what they are; directories in `skip` are other datasets."""
    try:
        found = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise Fault(f"cannot read '{root}': {error.strerror}") from error
    for entry in found:
        if entry.path in skip:
            continue
        status = entry.stat(follow_symlinks=False)
        path = prefix + entry.name
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(entry.path, skip, path + "/")


def scan(root: str, skip: Collection[str]) -> Manifest:
    """What is there now, without blobs. Sockets, pipes and devices can't be carried: a Fault."""
    manifest = Manifest()
    for path, status in _walk(root, skip):
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISREG(status.st_mode):
            entry = Entry("f", mode, status.st_mtime_ns, status.st_size)
            manifest.stats[path] = (status.st_ino, status.st_ctime_ns)
        elif stat.S_ISDIR(status.st_mode):
            entry = Entry("d", mode, 0, 0)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(f"{root}/{path}")
            entry = Entry("l", 0o777, status.st_mtime_ns, 0, target=target)
        else:
            raise Fault(
                f"'{root}/{path}': the emulated zfs keeps files, directories and symlinks only"
            )
        manifest.entries[path] = entry
    return manifest


def is_modified(root: str, skip: Collection[str], newest: Manifest) -> bool:
    """Whether the tree differs from a manifest, by sizes, modes and times."""
    now = scan(root, skip).entries
    if now.keys() != newest.entries.keys():
        return True
    for path, entry in now.items():
        entry.blob = newest.entries[path].blob
        if not entry.same(newest.entries[path]):
            return True
    return False


def freeze(
    root: str, skip: Collection[str], old: Manifest, blobs: str, prefix: str, now_ns: int
) -> tuple[Manifest, int]:
    """Copy what changed since `old` into `blobs`; the new manifest and the bytes copied.

    New blobs are called `prefix.N`. An unchanged file keeps its old blob.
    """
    manifest = scan(root, skip)
    copied = 0
    for number, (path, entry) in enumerate(manifest.entries.items()):
        if entry.kind != "f":
            continue
        before = old.entries.get(path)
        known = before is not None and before.kind == "f" and before.size == entry.size
        if before is not None and known:
            if old.stats.get(path) == manifest.stats[path]:
                entry.blob = before.blob
                continue
            if _same_bytes(f"{root}/{path}", f"{blobs}/{before.blob}"):
                entry.blob = before.blob
        if entry.blob is None:
            entry.blob = f"{prefix}.{number}"
            # The file may grow meanwhile; the manifest has to say what the blob holds.
            entry.size = copy_file(f"{root}/{path}", f"{blobs}/{entry.blob}")
            copied += entry.size
        if now_ns - manifest.stats[path][1] < _RACY_NS:
            del manifest.stats[path]
    return manifest, copied


def _same_bytes(one: str, two: str) -> bool:
    try:
        with open(one, "rb") as a, open(two, "rb") as b:
            while True:
                left, right = a.read(1 << 20), b.read(1 << 20)
                if left != right:
                    return False
                if not left:
                    return True
    except FileNotFoundError:
        return False


def copy_file(source: str, target: str) -> int:
    """Copy a file's bytes, sharing blocks if possible; how many."""
    with open(source, "rb") as src, open(target, "wb") as dst:
        try:
            fcntl.ioctl(dst.fileno(), _FICLONE, src.fileno())
            return os.fstat(dst.fileno()).st_size
        except OSError as error:
            if error.errno not in {
                errno.EOPNOTSUPP,
                errno.ENOTTY,
                errno.EXDEV,
                errno.EINVAL,
                errno.ENOSYS,
                errno.EPERM,
                errno.EBADF,
            }:
                raise
        total = 0
        try:
            while count := os.copy_file_range(src.fileno(), dst.fileno(), _COPY_BYTES):
                total += count
        except OSError as error:
            if total or error.errno not in {
                errno.EXDEV,
                errno.ENOSYS,
                errno.EINVAL,
                errno.EOPNOTSUPP,
            }:
                raise
        # A 0 from copy_file_range may also mean a file (of /proc, say) that it can't copy.
        while chunk := src.read(1 << 20):
            dst.write(chunk)
            total += len(chunk)
        return total


def make_tree(
    root: str, new: Manifest, blobs: str, *, old: Manifest | None, skip: Collection[str] = ()
) -> None:
    """Make the directory hold exactly the manifest; with `old`, known to be there, touch only what
    differs. Other datasets' mountpoints (`skip`) are left alone."""
    os.makedirs(root, exist_ok=True)
    there = (old if old is not None else scan(root, skip)).entries
    for path in sorted(there, reverse=True):
        entry = new.entries.get(path)
        if entry is None or entry.kind != there[path].kind or (old is None and entry.kind != "d"):
            _remove(f"{root}/{path}", is_directory=there[path].kind == "d", skip=skip)
    made_directories = []
    for path in sorted(new.entries):
        entry = new.entries[path]
        full = f"{root}/{path}"
        if old is not None and path in there and there[path].same(entry):
            continue
        if entry.kind == "d":
            os.makedirs(full, exist_ok=True)
            made_directories.append((full, entry.mode))
        elif entry.kind == "l":
            if os.path.lexists(full):
                os.unlink(full)
            os.symlink(entry.target, full)
            os.utime(full, ns=(entry.mtime, entry.mtime), follow_symlinks=False)
        else:
            copy_file(f"{blobs}/{entry.blob}", full)
            os.chmod(full, entry.mode)
            os.utime(full, ns=(entry.mtime, entry.mtime))
    # Last, as a directory that is read-only takes no files.
    for full, mode in reversed(made_directories):
        os.chmod(full, mode)


def _remove(path: str, *, is_directory: bool, skip: Collection[str]) -> None:
    if not is_directory:
        os.unlink(path)
    elif not any(other == path or other.startswith(path + "/") for other in skip):
        os.rmdir(path)


def remove_tree(root: str) -> None:
    """Remove a directory and all in it; one that is not there is fine."""
    try:
        entries = list(os.scandir(root))
    except FileNotFoundError:
        return
    os.chmod(root, 0o700)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(root)
