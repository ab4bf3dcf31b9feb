"""Files for the demo: made, changed and compared."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MIB", "TreeDigest", "change_text", "digest", "write_blob", "write_texts"]

MIB = 1024**2
_BLOCK = 4 * MIB


@dataclass(frozen=True, slots=True)
class TreeDigest:
    """What is in a directory: how many files and bytes, and one hash over names and contents."""

    files: int
    size: int
    sha256: str


def write_blob(path: Path, size: int, *, seed: int) -> None:
    """`size` bytes that do not compress, the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)  # noqa: S311 - data to move, not secrets
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(source.randbytes(min(left, _BLOCK)))


def write_texts(directory: Path, count: int) -> None:
    """Small files in subdirectories."""
    for number in range(count):
        path = directory / f"letters/{number % 10}/letter-{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Letter {number}\n" + "All is well here.\n" * (number % 40))


def change_text(directory: Path) -> None:
    """Rewrite one small file, remove another."""
    (directory / "letters/1/letter-1.txt").write_text("Rewritten.\n")
    (directory / "letters/2/letter-2.txt").unlink()


def digest(directory: Path) -> TreeDigest:
    """The digest of all files below `directory`, as a reader sees them."""
    total = hashlib.sha256()
    files = size = 0
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        own = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                own.update(block)
                size += len(block)
        files += 1
        total.update(f"{path.relative_to(directory)}\0{own.hexdigest()}\n".encode())
    return TreeDigest(files, size, total.hexdigest())
