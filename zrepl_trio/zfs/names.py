"""Names of datasets, snapshots, bookmarks and identities, checked once at the border.

Everything that comes from a config file, the wire or a command line becomes one of these
types before it is used, so that code past the border needs no check of its own.
Rules: OpenZFS `zfs_namecheck.c` (components of `[-_.: 0-9a-zA-Z]`, 255 bytes in all) and
zrepl's stricter ones (no `%`, not `.` or `..`, ASCII).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType

__all__ = [
    "MAX_NAME_BYTES",
    "DatasetPath",
    "Identity",
    "InvalidName",
    "check_component",
    "check_identity",
    "check_snapshot_name",
]

MAX_NAME_BYTES = 255
"""Longest `fs@snap` or `fs#bookmark` (OpenZFS `ZFS_MAX_DATASET_NAME_LEN` less the NUL)."""

_COMPONENT = re.compile(r"[-_.: 0-9A-Za-z]{1,255}", re.ASCII)

Identity = NewType("Identity", str)
"""A client identity: one dataset component, checked by `check_identity`."""


class InvalidName(ValueError):
    """The text is not a legal name; the message quotes it and says which rule it breaks."""


def check_component(text: str, what: str = "name") -> str:
    """`text`, if it can be one component of a dataset path; InvalidName otherwise."""
    if not text:
        raise InvalidName(f"{what} is empty")
    if len(text) > MAX_NAME_BYTES:
        raise InvalidName(f"{what} {text[:40]!r}… is longer than {MAX_NAME_BYTES} bytes")
    if text in {".", ".."}:
        raise InvalidName(f"{what} must not be {text!r}")
    if not _COMPONENT.fullmatch(text):
        raise InvalidName(f"{what} {text!r} has a character outside 0-9 A-Z a-z - _ . : and space")
    return text


def check_identity(text: str) -> Identity:
    """`text` as a client identity (one dataset component, so no path escapes)."""
    return Identity(check_component(text, "client identity"))


@lru_cache(maxsize=1 << 16)
def check_snapshot_name(text: str, what: str = "snapshot name") -> str:
    """`text`, if it can stand behind `@` or `#`. Equal names are mostly one object, checked once: most
    filesystems have snapshots of the same names."""
    return check_component(text, what)


_RIGHT: dict[str, DatasetPath] = {}
"""Paths that were found right, by their text: each is asked about with every call that names it."""

_MOST_RIGHT = 20_000


class DatasetPath(str):
    """A checked dataset path such as `tank/data/a`, usable wherever a str is.

    Make one by `DatasetPath.parse`. Never empty, never with an empty, `.` or `..` component, a
    leading `-` or `/`, and at most 255 bytes.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> DatasetPath:
        """The path in `text`; InvalidName says which rule it breaks."""
        found = _RIGHT.get(text)
        if found is None:
            cls._check(text)
            if len(_RIGHT) >= _MOST_RIGHT:
                _RIGHT.clear()
            found = _RIGHT[str(text)] = cls(text)
        return found

    @staticmethod
    def _check(text: str) -> None:
        if not text:
            raise InvalidName("dataset path is empty")
        if len(text.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            raise InvalidName(f"dataset path {text[:60]!r}… is longer than {MAX_NAME_BYTES} bytes")
        if text.startswith("-"):
            raise InvalidName(f"dataset path {text!r} starts with '-'")
        for component in text.split("/"):
            if not component:
                raise InvalidName(f"dataset path {text!r} has an empty component")
            try:
                check_component(component, "component")
            except InvalidName as error:
                raise InvalidName(f"dataset path {text!r}: {error}") from None

    @property
    def components(self) -> tuple[str, ...]:
        """The path's parts, pool first."""
        return tuple(self.split("/"))

    @property
    def pool(self) -> str:
        """The first component."""
        return self.split("/", 1)[0]

    @property
    def parent(self) -> DatasetPath | None:
        """The path above, None for a pool."""
        head, sep, _ = self.rpartition("/")
        return DatasetPath(head) if sep else None

    def child(self, relative: str) -> DatasetPath:
        """This path with `relative` (one or more components) below it, checked."""
        return DatasetPath.parse(f"{self}/{relative}")

    def is_below(self, root: str) -> bool:
        """Whether this is strictly below `root` (by components, not by string prefix)."""
        return self.startswith(root + "/")

    def is_at_or_below(self, root: str) -> bool:
        """Whether this is `root` or below it."""
        return self == root or self.is_below(root)

    def relative_to(self, root: str) -> DatasetPath:
        """The part below `root`; ValueError when this is not below it."""
        if not self.is_below(root):
            raise ValueError(f"{str(self)!r} is not below {root!r}")
        return DatasetPath(self[len(root) + 1 :])

    def ancestors(self) -> list[DatasetPath]:
        """All paths above this one, pool first, this one not included."""
        return list(_ancestors(self))


@lru_cache(maxsize=_MOST_RIGHT)
def _ancestors(path: DatasetPath) -> tuple[DatasetPath, ...]:
    parts = path.components
    return tuple(DatasetPath("/".join(parts[:n])) for n in range(1, len(parts)))
