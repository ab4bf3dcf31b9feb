"""Taking dataset, snapshot and bookmark names apart, with zfs's words for the bad ones."""

from __future__ import annotations

from zrepl_trio.emulate.fault import Fault

__all__ = [
    "MAX_NAME",
    "ancestors",
    "check_dataset",
    "check_version",
    "join_mountpoint",
    "parent",
    "pool_name",
    "split_version",
]

MAX_NAME = 255
"""`ZFS_MAX_DATASET_NAME_LEN` less the NUL."""

MAX_DEPTH = 50
"""`zfs_max_dataset_nesting`."""

_LEGAL = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.: ")


def pool_name(name: str) -> str:
    """The pool of a dataset, snapshot or bookmark name."""
    name = name.partition("/")[0]
    if "@" in name or "#" in name:
        return split_version(name)[0]
    return name


def parent(name: str) -> str:
    """The dataset above, "" for a pool."""
    return name.rpartition("/")[0]


def ancestors(name: str) -> list[str]:
    """All datasets above, pool first."""
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def split_version(name: str) -> tuple[str, str, str]:
    """(dataset, sign, name) of `dataset@name` or `dataset#name`; sign "" for neither."""
    dataset, sign, rest = name.partition("@")
    before, other, after = dataset.partition("#")
    if other:
        return before, other, after + sign + rest
    return dataset, sign, rest


def join_mountpoint(base: str, rest: str) -> str:
    """A directory and what a dataset's name adds to it."""
    return f"{base.rstrip('/')}/{rest.strip('/')}".rstrip("/") or "/"


def check_dataset(name: str, cannot: str) -> None:
    """A Fault that begins with `cannot` unless `name` can be a dataset."""
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise Fault(f"{cannot}: name is too long")
    if name.startswith("/"):
        raise Fault(f"{cannot}: leading slash in name")
    if name.endswith("/"):
        raise Fault(f"{cannot}: trailing slash in name")
    for sign, what in (("@", "snapshot"), ("#", "bookmark")):
        if sign in name:
            raise Fault(f"{cannot}: {what} delimiter '{sign}' is not expected here")
    for part in name.split("/"):
        _check_part(part, cannot)
    if not name[:1].isalpha():
        raise Fault(f"{cannot}: name must begin with a letter")
    if name.count("/") >= MAX_DEPTH:
        raise Fault(f"{cannot}: maximum name nesting depth exceeded")


def check_version(name: str, cannot: str) -> None:
    """The same for a snapshot or bookmark."""
    dataset, sign, short = split_version(name)
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise Fault(f"{cannot}: name is too long")
    if not sign:
        raise Fault(f"{cannot}: missing '@' delimiter in snapshot name")
    if sign == "@" and "#" in short:
        raise Fault(f"{cannot}: bookmark delimiter '#' is not expected here")
    if "@" in short or "#" in short:
        raise Fault(f"{cannot}: multiple '@' and/or '#' delimiters in name")
    if "/" in short:
        raise Fault(f"{cannot}: trailing slash in name")
    for part in dataset.split("/"):
        _check_part(part, cannot)
    _check_part(short, cannot)


def _check_part(part: str, cannot: str) -> None:
    if not part:
        raise Fault(f"{cannot}: empty component or misplaced '@' or '#' delimiter in name")
    if not _LEGAL.issuperset(part):
        char = next(char for char in part if char not in _LEGAL)
        shown = char if char == "%" else f"'{char}'"
        raise Fault(f"{cannot}: invalid character {shown} in name")
    if part == ".":
        raise Fault(f"{cannot}: self reference, '.' is found in name")
    if part == "..":
        raise Fault(f"{cannot}: parent reference, '..' is found in name")
