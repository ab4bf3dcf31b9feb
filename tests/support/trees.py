"""Small directory trees as dicts: relative path to contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["read_tree", "write_tree"]


def write_tree(root: Path, files: Mapping[str, bytes | None]) -> None:
    """Write those files below `root`; None removes one."""
    for name, data in files.items():
        path = root / name
        if data is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def read_tree(root: Path) -> dict[str, bytes]:
    """All regular files below `root`."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
