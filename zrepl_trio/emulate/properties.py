"""The properties that the emulation knows: defaults, who inherits, what may be set."""

from __future__ import annotations

from zrepl_trio.emulate.fault import Fault

__all__ = [
    "NATIVE",
    "READ_ONLY",
    "WRITTEN_SINCE",
    "check_settable",
    "default_of",
    "is_inheritable",
    "is_user",
    "known",
]

_USER_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789:+._-")
_ON_OFF = ("on", "off")
_F, _V, _FV = "filesystem", "volume", "both"

NATIVE: dict[str, tuple[str, bool, str, tuple[str, ...]]] = {
    # name: (default, inheritable, type, values; () = any)
    "atime": ("on", True, _F, _ON_OFF),
    "canmount": ("on", False, _F, ("on", "off", "noauto")),
    "checksum": ("on", True, _FV, ()),
    "compression": ("on", True, _FV, ()),
    "context": ("none", False, _F, ()),
    "copies": ("1", True, _FV, ("1", "2", "3")),
    "dedup": ("off", True, _FV, ()),
    "defcontext": ("none", False, _F, ()),
    "devices": ("on", True, _F, _ON_OFF),
    "exec": ("on", True, _F, _ON_OFF),
    "fscontext": ("none", False, _F, ()),
    "logbias": ("latency", True, _FV, ("latency", "throughput")),
    "mountpoint": ("", True, _F, ()),
    "nbmand": ("off", True, _F, _ON_OFF),
    "overlay": ("on", True, _F, _ON_OFF),
    "primarycache": ("all", True, _FV, ("all", "none", "metadata")),
    "quota": ("0", False, _F, ()),
    "readonly": ("off", True, _FV, _ON_OFF),
    "recordsize": ("131072", True, _F, ()),
    "refreservation": ("0", False, _FV, ()),
    "refquota": ("0", False, _F, ()),
    "relatime": ("on", True, _F, _ON_OFF),
    "reservation": ("0", False, _FV, ()),
    "rootcontext": ("none", False, _F, ()),
    "secondarycache": ("all", True, _FV, ("all", "none", "metadata")),
    "setuid": ("on", True, _F, _ON_OFF),
    "sharenfs": ("off", True, _F, ()),
    "sharesmb": ("off", True, _F, ()),
    "snapdev": ("hidden", True, _FV, ("hidden", "visible")),
    "snapdir": ("hidden", True, _F, ("hidden", "visible", "disabled")),
    "sync": ("standard", True, _FV, ("standard", "always", "disabled")),
    "volmode": ("default", True, _FV, ("default", "full", "geom", "dev", "none")),
    "volsize": ("0", False, _V, ()),
    "vscan": ("off", True, _F, _ON_OFF),
    "xattr": ("on", True, _F, ("on", "off", "dir", "sa")),
    "encryption": ("off", False, _FV, ("on", "off", "aes-256-gcm")),
    "keyformat": ("none", False, _FV, ("raw", "hex", "passphrase")),
    "keylocation": ("none", False, _FV, ()),
}
"""Settable ones. `encryption` is a flag only: there are no keys, and nothing is encrypted."""

READ_ONLY = frozenset(
    [
        "available",
        "compressratio",
        "createtxg",
        "creation",
        "defer_destroy",
        "guid",
        "keystatus",
        "encryptionroot",
        "logicalreferenced",
        "mounted",
        "name",
        "objsetid",
        "origin",
        "receive_resume_token",
        "referenced",
        "type",
        "used",
        "userrefs",
        "written",
    ]
)


WRITTEN_SINCE = "written@"
"""And the name of a snapshot: what was written since that."""


def is_user(prop: str) -> bool:
    """Whether zfs takes this name for a user property."""
    return ":" in prop and "@" not in prop


def known(prop: str) -> bool:
    """Whether `zfs get` takes the name."""
    return is_user(prop) or prop in NATIVE or prop in READ_ONLY or prop.startswith(WRITTEN_SINCE)


def is_inheritable(prop: str) -> bool:
    """Whether children show a parent's value."""
    return is_user(prop) or (prop in NATIVE and NATIVE[prop][1])


def default_of(prop: str, *, is_volume: bool) -> str | None:
    """The default value; None where the property does not exist for this type or is a user's."""
    entry = NATIVE.get(prop)
    if entry is None or (entry[2] == _F and is_volume) or (entry[2] == _V and not is_volume):
        return None
    return entry[0]


def check_settable(prop: str, value: str, cannot: str, *, creating: bool = False) -> None:
    """A Fault that begins with `cannot` unless the property may be given that value."""
    if is_user(prop):
        if not _USER_LETTERS.issuperset(prop):
            raise Fault(f"{cannot}: invalid property '{prop}'")
        if len(prop) > 255:
            raise Fault(f"{cannot}: property name '{prop}' is too long")
        if len(value.encode("utf-8", "surrogateescape")) >= 8192:
            raise Fault(f"{cannot}: property value too long")
        return
    if prop in READ_ONLY:
        raise Fault(f"{cannot}: '{prop}' is readonly")
    entry = NATIVE.get(prop)
    if entry is None:
        raise Fault(f"{cannot}: invalid property '{prop}'")
    if prop == "encryption" and not creating:
        raise Fault(f"{cannot}: '{prop}' is readonly")
    if entry[3] and value not in entry[3]:
        raise Fault(f"{cannot}: '{prop}' must be one of '{' | '.join(entry[3])}'")
    if prop == "mountpoint" and value not in {"none", "legacy"} and not value.startswith("/"):
        raise Fault(f"{cannot}: 'mountpoint' must be an absolute path, 'none', or 'legacy'")
