"""Telling a placeholder filesystem from a real one. Pure."""

from __future__ import annotations

import hashlib

from zrepl_trio.zfs.model import PropertySource

__all__ = ["is_placeholder", "legacy_hash"]


def legacy_hash(path: str) -> str:
    """What zrepl 0.0.x wrote into zrepl:placeholder: SHA-512/256 of the path, in hex."""
    return hashlib.new("sha512_256", path.encode()).hexdigest()


def is_placeholder(path: str, value: str, source: PropertySource) -> bool:
    """zrepl's rule: set on this very dataset, to `on` or to the hash of its path.

    An inherited `on` would make every child of a placeholder one, so only a local value counts.
    """
    return source is PropertySource.LOCAL and (value == "on" or value == legacy_hash(path))
